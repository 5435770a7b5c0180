// One job: what is being drawn, step by step, and what came of it.

import { drawScene } from './scene_drawing.js';
import { h, iconButton, put, s, segmented } from './dom.js';
import { keepFocus } from './focus.js';

const MOST_REMEMBERED = 200;

export class JobView {
  // `onopen` gets what made a picture, `oncancel` the key of a job.
  constructor(server, say, onopen, oncancel) {
    Object.assign(this, { server, say, onopen, oncancel });
    this.cancel = h('button', { type: 'button', class: 'button', onclick: () => this.oncancel(this.job.key) }, 'Cancel');
    this.large = h('dialog', { class: 'large', onclick: () => this.large.close() });
    this.job = null;
    this.choices = {};
    this.boxes = false;
    this.images = new Map();
    this.made = '';
    this.about = h('span', { class: 'faint' });
    this.bar = h('div', { class: 'tools' }, this.about, h('span', { class: 'gap' }), this.cancel);
    this.sketches = h('div', {});
    this.element = h('div', { class: 'result' });
    this.show(null);
  }

  show(job) {
    this.job = job;
    if (job && job.views.length) {
      this.showResult();
      return;
    }
    this.made = '';
    if (!job) put(this.element, h('p', { class: 'faint empty' }, 'Press Draw, and the picture comes here.'));
    else if (job.state === 'drawing') this.showProgress();
    else {
      put(this.element, h('p', { class: job.state === 'failed' ? 'problem empty' : 'faint empty' },
        job.error || { waiting: 'Waiting for other jobs.', cancelled: 'Cancelled.', failed: 'Failed.' }[job.state]));
    }
  }

  showProgress() {
    const { job } = this;
    const shot = (name, text) => {
      const found = job.previews.find((one) => one.name === name);
      return h('figure', { class: name ? 'preview' : 'preview main', 'data-preview': name },
        found ? h('img', { src: found.image, alt: `${text}, expected after step ${found.step}` }) : h('div', { class: 'blank' }),
        h('figcaption', {}, text, h('span', { class: 'faint' }, found ? ` step ${found.step}` : '')));
    };
    this.about.textContent = this.said(job);
    // The button stays the same element under whoever presses it.
    if (this.bar.parentElement !== this.element) put(this.element, this.bar, this.sketches);
    put(this.sketches,
      h('progress', { max: job.steps || 1, value: job.step, 'aria-label': 'Steps' }),
      shot('', 'Together'),
      job.members.length > 1 ? h('div', { class: 'previews' }, job.members.map((name) => shot(name, name))) : null);
  }

  // Made anew only where there is something else to see: every step of a member alone must not take away what somebody
  // is pressing.
  showResult() {
    const { job } = this;
    const at = this.choices[job.key] ||= { view: '', position: 0, plot: false };
    const made = JSON.stringify([job.key, job.state, job.views.length, job.error, at, this.boxes]);
    if (made !== this.made) {
      this.made = made;
      this.progress = h('progress', { 'aria-label': 'Steps', hidden: job.state !== 'drawing' });
      keepFocus(this.element, () => put(this.element, ...this.result(job, at)));
    }
    this.about.textContent = this.said(job);
    this.progress.max = job.steps || 1;
    this.progress.value = job.step;
  }

  said(job) {
    return `${job.stage || 'starting'}: step ${job.step} of ${job.steps || '…'}`;
  }

  result(job, at) {
    const set = (change) => { Object.assign(at, change); this.showResult(); };
    const names = job.views.map((view) => view.name);
    const choices = names.map((name) => [name, name || 'Together']);
    if (names.length > 1) choices.push(['*', 'Side by side']);
    const drawnBy = names.length > 1 ? segmented('Drawn by', choices, at.view, (view) => set({ view })) : null;
    for (const button of drawnBy ? drawnBy.children : []) button.dataset.key = `result.view.${button.dataset.value}`;
    const shown = at.view === '*' ? job.views : job.views.filter((view) => view.name === at.view);
    const first = shown[0];
    const check = (key, text, checked, onchange) => h('label', { class: 'check' },
      h('input', { type: 'checkbox', checked, 'data-key': key, onchange: (event) => onchange(event.target.checked) }), text);
    return [
      job.state === 'drawing' ? this.bar : null,
      this.progress,
      drawnBy,
      h('div', { class: at.view === '*' ? 'pictures beside' : 'pictures' }, shown.map((view) => this.figure(job, view, at.position, at.view === '*'))),
      job.seeds.length > 1 ? h('div', { class: 'strip', role: 'group', 'aria-label': 'Seed' }, job.seeds.map((seed, position) =>
        h('button', { type: 'button', 'aria-pressed': String(position === at.position), 'data-key': `result.seed.${seed}`, onclick: () => set({ position }), title: `seed ${seed}` },
          this.picture(first.files[position], `seed ${seed}`)))) : null,
      h('div', { class: 'tools' },
        check('result.boxes', 'Boxes', this.boxes, (boxes) => { this.boxes = boxes; this.showResult(); }),
        check('result.plot', 'Step by step', at.plot, (plot) => set({ plot })),
        h('span', { class: 'gap' }),
        iconButton('reload', 'Back to this scene and these models', () => this.onopen({ ...job.content, seed: job.seeds[at.position] }), { 'data-key': 'result.open' }),
        iconButton('download', 'Save the picture, with its settings', () => this.download(first.files[at.position]), { 'data-key': 'result.save' })),
      at.plot ? this.plot(job, at.position) : null,
      h('p', { class: 'faint' }, `${Object.entries(first.evaluations).map(([name, count]) => `${name} ${count}`).join(' · ')} evaluations`,
        job.state === 'done' ? ` · ${job.seconds} s in all` : ''),
      job.state === 'cancelled' ? h('p', { class: 'faint' }, 'Cancelled: what had been drawn until then is here.') : null,
      ...first.warnings.map((text) => h('p', { class: 'warning' }, text)),
      ...job.error.split('\n').filter(Boolean).map((text) => h('p', { class: 'problem' }, text)),
    ];
  }

  figure(job, view, position, captioned) {
    const text = view.name ? `${view.name} alone` : 'Together';
    const image = this.picture(view.files[position], `${text}, seed ${job.seeds[position]}`);
    const frame = h('div', { class: 'frame', title: 'Click to enlarge', onclick: () => this.enlarge(image) }, image);
    if (this.boxes) {
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

  picture(file, alt) {
    const image = h('img', { alt, class: 'drawn', onload: () => image.classList.toggle('small', image.naturalWidth <= 128) });
    image.hidden = true;
    image.addEventListener('load', () => { image.hidden = false; });
    this.image('picture', { name: file }).then((uri) => { image.src = uri; }, (error) => { image.alt = error.message; image.hidden = false; });
    return image;
  }

  plot(job, position) {
    const image = h('img', { class: 'plot', alt: 'How far the members pulled at each step', title: 'Click to enlarge', hidden: true, onclick: () => this.enlarge(image) });
    image.addEventListener('load', () => { image.hidden = false; });
    this.image('trace', { job: job.key, position }).then((uri) => { image.src = uri; }, (error) => this.say(error.message));
    return image;
  }

  // Over the whole page, until the next click or Escape.
  enlarge(image) {
    put(this.large, h('img', { src: image.src, alt: image.alt, class: image.classList.contains('small') ? 'small' : '' }));
    if (!this.large.isConnected) this.element.closest('.studio').append(this.large);
    this.large.showModal();
  }

  async download(file) {
    try {
      const link = h('a', { href: await this.image('picture', { name: file }), download: file.split('/').at(-1) });
      link.click();
    } catch (error) {
      this.say(error.message);
    }
  }

  // Pictures as they are on disk, and plots: each is asked for once, unless that fails.
  image(question, data) {
    const key = JSON.stringify([question, data]);
    if (!this.images.has(key)) {
      const asked = this.server.ask(question, data).then((answer) => answer.uri);
      asked.catch(() => this.images.delete(key));
      this.images.set(key, asked);
      if (this.images.size > MOST_REMEMBERED) this.images.delete(this.images.keys().next().value);
    }
    return this.images.get(key);
  }
}
