// Drawing: seeds, and the jobs of this page as the studio says they are.

import { afterClick, h, iconButton } from './dom.js';
import { controlAt } from './focus.js';
import { JobView } from './job_view.js';
import { JobsList } from './jobs_list.js';

const POLL = 350;
const REST = 2500;

export class PicturePanel {
  // `onopen` gets what made a picture, `ondrawn` is called when pictures were added to the gallery, `onlead` with the part
  // of the page that somebody is led to.
  constructor(store, server, say, onopen, ondrawn, onlead) {
    Object.assign(this, { store, server, say, ondrawn, onlead });
    this.jobs = new Map();
    this.chosen = null;
    this.seeds = h('input', { value: '1', class: 'seeds', 'aria-label': 'Seeds', title: 'One picture per seed: 1, 2, 3 or 1-3',
      oninput: () => this.showButton() });
    // Whoever has large models may not want to wait for them one by one, this time and the next.
    this.alone = h('input', { type: 'checkbox', checked: localStorage.getItem('amdm-alone') !== 'no',
      onchange: () => localStorage.setItem('amdm-alone', this.alone.checked ? 'yes' : 'no') });
    this.button = h('button', { type: 'button', class: 'primary', onclick: () => this.draw() }, 'Draw');
    this.more_evaluations = h('span', { class: 'faint' });
    this.reason = h('button', { type: 'button', class: 'reason', hidden: true, onclick: () => this.leadThere() });
    this.view = new JobView(server, say, onopen, (key) => this.cancel(key));
    this.list = new JobsList((key) => this.choose(key), (key) => this.cancel(key));
    this.element = h('section', { class: 'panel picture', 'aria-label': 'Picture' },
      h('div', { class: 'head' }, h('h2', {}, 'Picture')),
      h('div', { class: 'run' },
        h('label', { class: 'field inline' }, h('span', {}, 'Seeds'), this.seeds),
        iconButton('dice', 'Random seed', () => { this.seeds.value = String(crypto.getRandomValues(new Uint32Array(1))[0]); this.showButton(); }),
        iconButton('plus', 'One more seed', () => this.more()), this.button),
      h('label', { class: 'check' }, this.alone, 'Each model alone, too', this.more_evaluations), this.reason,
      this.view.element, this.list.element);
    store.on('answer', () => this.showButton());
    this.poll();
  }

  more() {
    const last = (this.seeds.value.match(/\d+/g) || []).at(-1);
    this.seeds.value = [this.seeds.value.trim(), last ? BigInt(last) + 1n : 1].filter((one) => one !== '').join(', ');
    this.showButton();
  }

  // The first thing on the page that is to be mended.
  leadThere() {
    const { problems, incompatible } = this.store.answer;
    // On a small screen the parts are shown one at a time.
    if (problems.length || incompatible) this.onlead(problems.length && problems[0].part === 'scene' ? 'scene' : 'models');
    const root = this.element.getRootNode();
    const found = [...root.querySelectorAll('[aria-invalid="true"], .panel .problem, .panel .missing, .verdict.bad')].find((one) => one.checkVisibility());
    if (!found) return;
    const slot = found.closest('[data-problems]');
    const control = slot && controlAt(root, slot.dataset.problems);
    (control || found).scrollIntoView({ block: 'center' });
    (control || found).focus({ preventScroll: true });
  }

  showButton() {
    const { problems, incompatible } = this.store.answer;
    const seeds = seedsOf(this.seeds.value, this.store.installed.most_seeds);
    this.seeds.setAttribute('aria-invalid', String(!seeds));
    this.button.disabled = Boolean(problems.length || incompatible || !seeds);
    const { cost } = this.store.answer;
    this.more_evaluations.textContent = cost && cost.members.length > 1 ? `(${cost.members.length * cost.steps} more evaluations)` : '';
    const count = (part, text) => {
      const number = problems.filter((one) => one.part === part).length;
      return number ? `${number} in the ${text}` : null;
    };
    const places = [count('scene', 'scene'), count('composition', 'models'), incompatible ? 'models that do not fit' : null,
      seeds ? null : `seeds: 1 to ${this.store.installed.most_seeds} different whole numbers, such as 1, 2, 5-8`].filter(Boolean);
    this.reason.textContent = places.length ? `To mend first: ${places.join(', ')}` : '';
    this.reason.hidden = !places.length;
  }

  async draw() {
    // What is edited while the studio looks at this is not what the answer is about.
    const sent = structuredClone(this.store.draft);
    try {
      const answer = await this.server.ask('draw', { ...sent, seeds: seedsOf(this.seeds.value, this.store.installed.most_seeds), alone: this.alone.checked });
      if (answer.draft) {
        this.store.take(answer.draft, sent);
        this.say('Something has to be mended first.');
        return;
      }
      this.chosen = answer.job;
      this.refresh();
    } catch (error) {
      this.say(error.message);
    }
  }

  async cancel(key) {
    try {
      await this.server.ask('cancel', { job: key });
    } catch (error) {
      this.say(error.message);
    }
    this.refresh();
  }

  choose(key) {
    this.chosen = key;
    this.list.show(this.jobs, key);
    this.view.show(this.jobs.get(key));
  }

  // The only one who asks for the jobs: answers come in the order of their questions.
  async poll() {
    for (;;) {
      this.due = false;
      const known = Object.fromEntries([...this.jobs].map(([key, job]) => [key, job.version]));
      // Where there is no answer the next round asks again; whoever presses a button is told.
      const answer = await this.server.ask('jobs', { known }).catch(() => null);
      if (answer) this.take(answer.jobs);
      const busy = answer && [...this.jobs.values()].some((job) => job.state === 'waiting' || job.state === 'drawing');
      if (this.due) continue;
      await new Promise((wake) => {
        this.wake = wake;
        setTimeout(wake, busy ? POLL : REST);
      });
    }
  }

  // Ask now, or at once after the answer that is under way.
  refresh() {
    this.due = true;
    if (this.wake) this.wake();
  }

  take(answered) {
    const before = this.jobs;
    this.jobs = new Map(answered.map((job) => [job.key, 'version' in job ? job : before.get(job.key)]));
    // A job that was begun a moment ago may not be in this answer yet.
    if (!this.chosen || (before.has(this.chosen) && !this.jobs.has(this.chosen))) this.chosen = [...this.jobs.keys()].at(-1) || null;
    // Pictures of all members together are in the gallery, whatever becomes of the rest of the job.
    if ([...this.jobs.values()].some((job) => job.views.length && !before.get(job.key)?.views.length)) this.ondrawn();
    this.list.show(this.jobs, this.chosen);
    afterClick(() => {
      const job = this.jobs.get(this.chosen);
      if (!this.chosen || (job && job !== this.view.job)) this.view.show(job);
    });
  }
}

// `1, 2, 5-8` as texts, since a number holds 53 bits; null where it is something else, or too many.
function seedsOf(text, most) {
  const seeds = [];
  for (const word of text.split(/[\s,;]+/).filter(Boolean)) {
    const found = word.match(/^(\d{1,20})(?:-(\d{1,20}))?$/);
    if (!found) return null;
    const [first, last] = [BigInt(found[1]), BigInt(found[2] || found[1])];
    if (last < first || last - first >= BigInt(most) || last >= 2n ** 64n) return null;
    for (let seed = first; seed <= last; seed += 1n) seeds.push(String(seed));
  }
  return seeds.length && seeds.length <= most && new Set(seeds).size === seeds.length ? seeds : null;
}
