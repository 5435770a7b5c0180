// Drawing: seeds, jobs with their previews, and what came of them.

import { drawScene } from './scene_drawing.js';
import { h, icon, iconButton, put, s, segmented } from './dom.js';

const POLL = 350;
const REST = 2500;

export class PicturePanel {
  // `onopen` gets what made a picture, `ondrawn` is called when pictures were added to the gallery.
  constructor(store, server, say, onopen, ondrawn) {
    Object.assign(this, { store, server, say, onopen, ondrawn });
    this.jobs = new Map();
    this.chosen = null;
    this.views = {};
    this.overlay = false;
    this.pictures = new Map();
    this.seeds = h('input', { value: '1', class: 'seeds', 'aria-label': 'Seeds', title: 'One picture per seed, e.g. 1, 2, 3' });
    // Whoever has large models may not want to wait for them one by one, this time and the next.
    this.alone = h('input', { type: 'checkbox', checked: localStorage.getItem('amdm-alone') !== 'no',
      onchange: () => localStorage.setItem('amdm-alone', this.alone.checked ? 'yes' : 'no') });
    this.button = h('button', { type: 'button', class: 'primary', onclick: () => this.draw() }, 'Draw');
    this.reason = h('p', { class: 'faint', role: 'status' });
    this.list = h('ol', { class: 'jobs', 'aria-label': 'Jobs' });
    this.stage = h('div', { class: 'result' });
    this.element = h('section', { class: 'panel picture', 'aria-label': 'Picture' },
      h('div', { class: 'head' }, h('h2', {}, 'Picture')),
      h('div', { class: 'run' },
        h('label', { class: 'field inline' }, h('span', {}, 'Seeds'), this.seeds),
        iconButton('dice', 'Random seed', () => { this.seeds.value = String(crypto.getRandomValues(new Uint32Array(1))[0]); }),
        iconButton('plus', 'One more seed', () => this.more()), this.button),
      h('label', { class: 'check' }, this.alone, 'Each model alone, too'), this.reason,
      this.stage, this.list);
    store.on('answer', () => this.showButton());
    this.showStage();
    this.poll();
  }

  more() {
    const seeds = this.seeds.value.match(/\d+/g) || [];
    this.seeds.value = [...seeds, seeds.length ? BigInt(seeds.at(-1)) + 1n : 1].join(', ');
  }

  showButton() {
    const { problems, incompatible } = this.store.answer;
    const wrong = problems.length || incompatible;
    this.button.disabled = Boolean(wrong);
    const count = (part, text) => {
      const number = problems.filter((one) => one.part === part).length;
      return number ? `${number} in the ${text}` : null;
    };
    const places = [count('scene', 'scene'), count('composition', 'models'), incompatible ? 'models that do not fit' : null].filter(Boolean);
    this.reason.textContent = places.length ? `To mend first: ${places.join(', ')}` : '';
  }

  async draw() {
    const words = this.seeds.value.split(/[\s,;]+/).filter(Boolean);
    try {
      const answer = await this.server.ask('draw', { ...this.store.draft, seeds: words, alone: this.alone.checked });
      if (answer.draft) {
        this.store.take(answer.draft, this.store.draft);
        this.say('Something has to be mended first.');
        return;
      }
      this.chosen = answer.job;
      this.refresh();
    } catch (error) {
      this.say(error.message);
    }
  }

  async poll() {
    let busy = false;
    try {
      busy = await this.update();
    } catch {
      // The next round asks again; whoever presses a button is told.
    }
    this.timer = setTimeout(() => this.poll(), busy ? POLL : REST);
  }

  refresh() {
    clearTimeout(this.timer);
    this.poll();
  }

  async update() {
    const known = Object.fromEntries([...this.jobs].map(([key, job]) => [key, job.version]));
    const answer = await this.server.ask('jobs', { known });
    if (answer.error) return false;
    const before = new Map(this.jobs);
    this.jobs = new Map(answer.jobs.map((job) => [job.key, 'version' in job ? job : before.get(job.key)]));
    const changed = answer.jobs.filter((job) => 'version' in job);
    if (changed.some((job) => job.state === 'done' && (!before.get(job.key) || before.get(job.key).state !== 'done'))) this.ondrawn();
    if (!this.jobs.has(this.chosen)) this.chosen = [...this.jobs.keys()].at(-1) || null;
    if (changed.length || before.size !== this.jobs.size) this.showJobs();
    if (changed.some((job) => job.key === this.chosen) || this.shown !== this.chosen) this.showStage();
    return [...this.jobs.values()].some((job) => job.state === 'waiting' || job.state === 'drawing');
  }

  showJobs() {
    put(this.list, ...[...this.jobs.values()].reverse().map((job) => {
      const words = { waiting: job.ahead ? `waiting, ${job.ahead} before it` : 'waiting', drawing: job.stage || 'starting',
        done: `${job.seconds} s`, failed: 'failed', cancelled: 'cancelled' }[job.state];
      return h('li', { class: job.key === this.chosen ? 'job chosen' : 'job', 'data-state': job.state, 'data-job': job.key },
        h('button', { type: 'button', class: 'job-name', onclick: () => { this.chosen = job.key; this.showJobs(); this.showStage(); } },
          h('span', {}, job.content.scene.caption || 'no caption'), h('span', { class: 'faint' }, `${job.strategy} · seed ${job.seeds.join(', ')} · ${words}`)),
        job.state === 'drawing' ? h('progress', { max: job.steps || 1, value: job.step, 'aria-label': 'Progress' }) : null,
        job.state === 'waiting' || job.state === 'drawing' ? h('button', { type: 'button', class: 'button', onclick: () => this.cancel(job) }, 'Cancel') : null);
    }));
  }

  async cancel(job) {
    try {
      await this.server.ask('cancel', { job: job.key });
    } catch (error) {
      this.say(error.message);
    }
    this.refresh();
  }

  showStage() {
    this.shown = this.chosen;
    const job = this.jobs.get(this.chosen);
    if (!job) {
      put(this.stage, h('p', { class: 'faint empty' }, 'Press Draw, and the picture comes here.'));
    } else if (job.state === 'done' || job.views.length) {
      this.showResult(job);
    } else if (job.state === 'drawing') {
      this.showProgress(job);
    } else {
      put(this.stage, h('p', { class: job.state === 'failed' ? 'problem empty' : 'faint empty' },
        job.error || { waiting: 'Waiting for other jobs.', cancelled: 'Cancelled.', failed: 'Failed.' }[job.state]));
    }
  }

  showProgress(job) {
    const preview = (name) => job.previews.find((one) => one.name === name);
    const shot = (name, text) => {
      const found = preview(name);
      return h('figure', { class: name ? 'preview' : 'preview main', 'data-preview': name },
        found ? h('img', { src: found.image, alt: `${text}, expected after step ${found.step}` }) : h('div', { class: 'blank' }),
        h('figcaption', {}, text, h('span', { class: 'faint' }, found ? ` step ${found.step}` : '')));
    };
    put(this.stage,
      h('p', { class: 'faint' }, `${job.stage || 'starting'}: step ${job.step} of ${job.steps || '…'}`),
      h('progress', { max: job.steps || 1, value: job.step, 'aria-label': 'Steps' }),
      shot('', 'Together'),
      job.members.length > 1 ? h('div', { class: 'previews' }, job.members.map((name) => shot(name, name))) : null);
  }

  stateOf(job) {
    this.views[job.key] ||= { view: '', position: 0, plot: false };
    return this.views[job.key];
  }

  showResult(job) {
    const at = this.stateOf(job);
    const set = (change) => { Object.assign(at, change); this.showStage(); };
    const names = job.views.map((view) => view.name);
    if (at.view !== '*' && !names.includes(at.view)) at.view = '';
    const choices = names.map((name) => [name, name || 'Together']);
    if (names.length > 1) choices.push(['*', 'Side by side']);
    const shown = at.view === '*' ? job.views : job.views.filter((view) => view.name === at.view);
    const first = shown[0];
    put(this.stage,
      job.state === 'drawing' ? h('progress', { max: job.steps || 1, value: job.step, 'aria-label': 'Steps' }) : null,
      names.length > 1 ? segmented('Drawn by', choices, at.view, (view) => set({ view })) : null,
      h('div', { class: at.view === '*' ? 'pictures beside' : 'pictures' }, shown.map((view) => this.figure(job, view, at.position, at.view === '*'))),
      job.seeds.length > 1 ? h('div', { class: 'strip', role: 'group', 'aria-label': 'Seed' }, job.seeds.map((seed, position) =>
        h('button', { type: 'button', 'aria-pressed': String(position === at.position), onclick: () => set({ position }), title: `seed ${seed}` },
          this.image(first.files[position], `seed ${seed}`)))) : null,
      h('div', { class: 'tools' },
        h('label', { class: 'check' }, h('input', { type: 'checkbox', checked: this.overlay, onchange: (event) => { this.overlay = event.target.checked; this.showStage(); } }), 'Boxes'),
        h('label', { class: 'check' }, h('input', { type: 'checkbox', checked: at.plot, onchange: (event) => set({ plot: event.target.checked }) }), 'Step by step'),
        h('span', { class: 'gap' }),
        iconButton('reload', 'Back to this scene and these models', () => this.onopen({ ...job.content, seed: job.seeds[at.position] })),
        iconButton('download', 'Save the picture, with its settings', () => this.download(first.files[at.position]))),
      at.plot ? this.plot(job, at.position) : null,
      h('p', { class: 'faint' }, `${Object.entries(first.evaluations).map(([name, count]) => `${name} ${count}`).join(' · ')} evaluations`,
        job.state === 'done' ? ` · ${job.seconds} s in all` : ''),
      ...first.warnings.map((text) => h('p', { class: 'warning' }, text)),
      ...job.error.split('\n').filter(Boolean).map((text) => h('p', { class: 'problem' }, text)));
  }

  figure(job, view, position, captioned) {
    const text = view.name ? `${view.name} alone` : 'Together';
    const image = this.image(view.files[position], `${text}, seed ${job.seeds[position]}`);
    const frame = h('div', { class: 'frame' }, image);
    if (this.overlay) {
      const over = s('svg', { class: 'overlay', preserveAspectRatio: 'none' });
      const lay = () => {
        const height = Math.round((1000 * image.naturalHeight) / (image.naturalWidth || 1)) || 1000;
        over.setAttribute('viewBox', `0 0 1000 ${height}`);
        put(over, ...drawScene({ instances: {}, ...job.content.scene }, height, null));
      };
      image.addEventListener('load', lay);
      lay();
      frame.append(over);
    }
    return h('figure', { 'data-view': view.name || 'together' }, frame, captioned ? h('figcaption', {}, text) : null);
  }

  // Pictures are fetched once each, as they are on disk.
  image(file, alt) {
    const image = h('img', { alt, class: 'drawn', onload: () => image.classList.toggle('small', image.naturalWidth <= 128) });
    this.source(file).then((uri) => { image.src = uri; }, (error) => { image.alt = error.message; });
    return image;
  }

  source(file) {
    if (!this.pictures.has(file)) {
      this.pictures.set(file, this.server.ask('picture', { name: file }).then((answer) => answer.uri));
      if (this.pictures.size > 200) this.pictures.delete(this.pictures.keys().next().value);
    }
    return this.pictures.get(file);
  }

  async download(file) {
    try {
      const link = h('a', { href: await this.source(file), download: file.split('/').at(-1) });
      link.click();
    } catch (error) {
      this.say(error.message);
    }
  }

  plot(job, position) {
    const image = h('img', { class: 'plot', alt: 'How far the members pulled at each step' });
    this.server.ask('trace', { job: job.key, position }).then((answer) => { image.src = answer.uri; }, (error) => this.say(error.message));
    return image;
  }
}
