// The jobs of this page, the newest first. A row stays the same element for as long as its job is there: whoever presses
// a button in it, or has come to it by keyboard, does not lose it when something else changes.

import { h } from './dom.js';

export class JobsList {
  constructor(onchoose, oncancel) {
    Object.assign(this, { onchoose, oncancel });
    this.rows = new Map();
    this.element = h('ol', { class: 'jobs', 'aria-label': 'Jobs' });
  }

  show(jobs, chosen) {
    for (const [key, row] of this.rows) {
      if (jobs.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
    for (const [key, job] of jobs) {
      if (!this.rows.has(key)) {
        this.rows.set(key, new Row(job, () => this.onchoose(key), () => this.oncancel(key)));
        this.element.prepend(this.rows.get(key).element);
      }
      this.rows.get(key).show(job, key === chosen);
    }
  }
}

class Row {
  constructor(job, onchoose, oncancel) {
    this.about = h('span', { class: 'faint' });
    this.progress = h('progress', { 'aria-label': 'Progress' });
    this.cancel = h('button', { type: 'button', class: 'button', onclick: oncancel }, 'Cancel');
    this.element = h('li', { 'data-job': job.key },
      h('button', { type: 'button', class: 'job-name', onclick: onchoose }, h('span', {}, job.content.scene.caption || 'no caption'), this.about),
      this.progress, this.cancel);
  }

  show(job, chosen) {
    const words = { waiting: job.ahead ? `waiting, ${job.ahead} before it` : 'waiting', drawing: job.stage || 'starting',
      done: `${job.seconds} s`, failed: 'failed', cancelled: 'cancelled' }[job.state];
    this.element.className = chosen ? 'job chosen' : 'job';
    this.element.dataset.state = job.state;
    this.about.textContent = `${job.strategy} · seed ${job.seeds.join(', ')} · ${words}`;
    this.progress.hidden = job.state !== 'drawing';
    this.progress.max = job.steps || 1;
    this.progress.value = job.step;
    this.cancel.hidden = job.state !== 'waiting' && job.state !== 'drawing';
  }
}
