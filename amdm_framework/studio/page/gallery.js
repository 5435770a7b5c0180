// The pictures in the output folder, newest first; a click brings back what made one.

import { afterClick, h, put } from './dom.js';

export class Gallery {
  constructor(server, say, onopen) {
    Object.assign(this, { server, say, onopen });
    this.pictures = [];
    this.asked = 0;
    this.more = h('button', { type: 'button', class: 'button', hidden: true, onclick: () => this.load(this.pictures.length) }, 'Older pictures');
    this.list = h('div', { class: 'shelf' });
    const chooser = h('input', { type: 'file', accept: 'image/png', hidden: true, class: 'open-file',
      onchange: () => { this.onopenfile(chooser.files[0]); chooser.value = ''; } });
    this.element = h('section', { class: 'panel gallery', 'aria-label': 'Gallery' },
      h('div', { class: 'head' }, h('h2', {}, 'Gallery'), h('span', { class: 'faint' }, 'A picture brings back its scene and models. Drop one of `amdm run` anywhere on this page.'),
        h('span', { class: 'gap' }), h('button', { type: 'button', class: 'button', onclick: () => chooser.click() }, 'Open a picture'), chooser),
      this.list, this.more);
  }

  async load(start = 0) {
    this.asked += 1;
    const number = this.asked;
    try {
      const answer = await this.server.ask('gallery', { start });
      // Two answers would show some pictures twice.
      if (number !== this.asked) return;
      this.pictures = start ? [...this.pictures, ...answer.pictures] : answer.pictures;
      this.more.hidden = !answer.more;
    } catch (error) {
      this.say(error.message);
    }
    afterClick(() => this.show());
  }

  show() {
    put(this.list, ...(this.pictures.length ? this.pictures.map((one) => h('button', {
      type: 'button', class: 'shelved', 'data-name': one.name, title: `${one.name}: ${one.caption}\n${one.made_by}`, onclick: () => this.open(one.name),
    }, h('img', { src: one.thumbnail, alt: one.caption || one.name, onload: (event) => event.target.classList.toggle('small', event.target.naturalWidth <= 128) }), h('span', {}, one.caption || 'no caption'), h('span', { class: 'faint' }, `seed ${one.seed}`), h('span', { class: 'faint' }, one.made_by)))
      : [h('p', { class: 'faint' }, 'Pictures you draw are kept here.')]));
  }

  async open(name) {
    try {
      this.onopen(await this.server.ask('open_picture', { name }));
    } catch (error) {
      this.say(error.message);
    }
  }

  async onopenfile(file) {
    if (!file) return;
    try {
      this.onopen(await this.server.askAbout(file, 'open_picture'));
    } catch (error) {
      this.say(`${file.name}: ${error.message}. To make it a reference picture, drop it onto the scene.`);
    }
  }
}
