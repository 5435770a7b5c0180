// The scene: the stage, the caption, and lists of instances, interactions and reference pictures.

import { Canvas } from './canvas.js';
import { h, icon, iconButton, problemLine, put } from './dom.js';
import { controlAt, keepFocus } from './focus.js';
import { InstanceRows } from './instance_rows.js';
import { PartViews } from './part_views.js';

const ROLES = ['style', 'content', 'control'];

export class ScenePanel {
  constructor(store, server, say) {
    this.store = store;
    this.server = server;
    this.say = say;
    this.thumbnails = {};
    this.canvas = new Canvas(store, (box) => this.add(box), (number) => this.focus(`interactions.${number}.action`));
    this.caption = this.text('textarea', 'caption', 'What the whole picture shows', { rows: 2, class: 'growing' });
    this.negative = this.text('input', 'negative', 'What it should not show');
    this.instances = new InstanceRows(store, say, (name) => this.canvas.remove(name));
    this.interactions = h('div', { class: 'rows' });
    this.references = h('div', { class: 'rows' });
    this.rest = h('div', { class: 'problems' });
    this.tools = h('div', { class: 'tools' });
    const chooser = h('input', { type: 'file', accept: 'image/png,image/jpeg,image/webp', hidden: true, class: 'reference-file',
      onchange: () => this.addPictures(chooser.files).then(() => { chooser.value = ''; }) });
    this.form = h('div', {},
      field('Caption', this.caption), this.tools, this.canvas.element,
      h('h3', {}, 'Things in the picture'), this.instances.element,
      h('h3', {}, 'Interactions'), this.interactions,
      h('h3', {}, 'Reference pictures'), this.references, chooser,
      h('button', { type: 'button', class: 'drop', onclick: () => chooser.click() }, icon('plus'),
        'Drop a picture here, or choose one'),
      field('Negative', this.negative), this.rest);
    const views = new PartViews(store, 'scene', 'Scene', 'Draw', this.form);
    this.element = h('section', { class: 'panel scene', 'aria-label': 'Scene' }, views.head, this.form, views.text);
    store.on('scene', () => this.show());
    store.on('tool', () => this.showTools());
    store.on('answer', () => this.showProblems());
    this.showTools();
  }

  text(tag, key, placeholder, extra) {
    return h(tag, { ...extra, placeholder, 'data-key': key, 'aria-label': key,
      oninput: (event) => this.store.editScene((scene) => {
        if (event.target.value) scene[key] = event.target.value;
        else delete scene[key];
      }, false, key) });
  }

  showTools() {
    const tool = (name, key, text) => h('button', { type: 'button', 'aria-pressed': String(this.canvas.tool === name), 'data-tool': name,
      title: `${text} (${key})`, onclick: () => { this.canvas.choose(name); this.showTools(); } }, icon(name), text);
    put(this.tools,
      h('div', { class: 'segmented', role: 'group', 'aria-label': 'Tool' }, tool('box', 'B', 'Box'), tool('arrow', 'A', 'Interaction')),
      h('span', { class: 'gap' }),
      h('button', { type: 'button', class: 'button', title: 'Take everything away; Undo brings it back', onclick: () => this.clear() }, 'Clear'));
    this.canvas.element.setAttribute('data-tool', this.canvas.tool);
  }

  add(box) {
    let number = 1;
    while (Object.hasOwn(this.store.scene.instances, `object-${number}`)) number += 1;
    const name = `object-${number}`;
    this.store.selected = name;
    this.store.editScene((scene) => { scene.instances[name] = { phrase: '', box }; });
    this.focus(`instances.${name}.phrase`);
  }

  focus(key) {
    const found = controlAt(this.element, key);
    if (!found) return;
    // The picture above stays in sight where that is possible.
    found.focus({ preventScroll: true });
    found.scrollIntoView({ block: 'nearest' });
  }

  show() {
    const scene = this.store.scene;
    for (const [control, key] of [[this.caption, 'caption'], [this.negative, 'negative']]) {
      if (control !== control.getRootNode().activeElement) control.value = scene[key] || '';
    }
    this.instances.show();
    this.showInteractions();
    this.showReferences();
    this.canvas.draw();
    this.showProblems();
  }

  clear() {
    this.store.selected = null;
    this.store.editScene((scene) => {
      for (const key of Object.keys(scene)) delete scene[key];
      Object.assign(scene, { caption: '', instances: {}, interactions: [], references: [] });
    });
  }

  showInteractions() {
    const { store } = this;
    const names = Object.keys(store.scene.instances);
    const rows = store.scene.interactions.map((one, number) => {
      const of = (role) => choice(names, one[role], `${role} of interaction ${number + 1}`, `interactions.${number}.${role}`,
        (value) => store.editScene(() => { one[role] = value; }));
      return h('div', { class: 'row interaction' }, h('div', { class: 'grow' },
        h('div', { class: 'sentence' }, of('subject'),
          h('input', { value: one.action || '', placeholder: 'does what', 'data-key': `interactions.${number}.action`, 'aria-label': `action of interaction ${number + 1}`,
            oninput: (event) => store.editScene(() => { one.action = event.target.value; }, false, `action ${number}`) }), of('object')),
        problemsFor(`interactions.${number}.subject`), problemsFor(`interactions.${number}.action`), problemsFor(`interactions.${number}.object`)),
      iconButton('remove', `Delete interaction ${number + 1}`, () => store.editScene((scene) => scene.interactions.splice(number, 1))));
    });
    // For those without a mouse.
    const add = h('button', { type: 'button', class: 'button add-interaction', hidden: !names.length,
      onclick: () => this.canvas.link(names[0], names[1] || names[0]) }, 'Add an interaction');
    keepFocus(this.interactions, () => put(this.interactions,
      rows.length ? rows : h('p', { class: 'faint' }, 'None yet: choose Interaction above, and drag from one box to another.'), add));
  }

  showReferences() {
    const { store } = this;
    const rows = store.scene.references.map((one, number) => {
      const key = `references.${number}`;
      const picture = h('img', { alt: '', class: 'thumbnail' });
      this.thumbnail(one.image, picture);
      const role = h('input', { value: one.role || '', list: 'roles', 'data-key': `${key}.role`, 'aria-label': `role of picture ${number + 1}`,
        oninput: (event) => store.editScene(() => { one.role = event.target.value; }, false, `role ${number}`) });
      return h('div', { class: 'row reference' }, picture, h('div', { class: 'grow' },
        h('div', { class: 'sentence' }, role, h('span', { class: 'faint' }, 'of'),
          choice(['', ...Object.keys(store.scene.instances)], one.instance || '', `whose picture ${number + 1} is`, `${key}.instance`, (value) => store.editScene(() => {
            if (value) one.instance = value;
            else delete one.instance;
          }), { '': 'the whole picture' })),
        problemsFor(`${key}.image`), problemsFor(`${key}.role`), problemsFor(`${key}.instance`)),
      iconButton('remove', `Delete picture ${number + 1}`, () => store.editScene((scene) => scene.references.splice(number, 1))));
    });
    keepFocus(this.references, () => put(this.references, ...rows,
      h('datalist', { id: 'roles' }, ROLES.map((value) => h('option', { value })))));
  }

  async thumbnail(image, picture) {
    if (!(image in this.thumbnails)) this.thumbnails[image] = this.server.ask('thumbnail', { image }).then((answer) => answer.uri, () => '');
    const uri = await this.thumbnails[image];
    if (uri) picture.src = uri;
    else picture.classList.add('missing');
  }

  async addPictures(files) {
    if (this.store.typed.scene) {
      this.say('The scene is being written as text: go back to “Draw” first.');
      return;
    }
    for (const file of files) {
      try {
        const { image } = await this.server.askAbout(file, 'add_picture');
        delete this.thumbnails[image];
        this.store.editScene((scene) => {
          // A picture that the scene names and that is not here is the one that is waited for.
          const waiting = scene.references.findIndex((_, number) => this.store.problemsAt('scene', `references.${number}.image`).length);
          if (waiting >= 0) scene.references[waiting].image = image;
          else scene.references.push({ role: ROLES.find((role) => !scene.references.some((one) => one.role === role)) || 'style', image });
        });
      } catch (error) {
        this.say(error.message);
      }
    }
  }

  showProblems() {
    const shown = new Set();
    for (const slot of this.form.querySelectorAll('[data-problems]')) {
      const messages = this.store.problemsAt('scene', slot.dataset.problems);
      // What nobody has written yet is no mistake of anybody's.
      const control = messages.length ? controlAt(this.form, slot.dataset.problems) : null;
      const empty = Boolean(control) && control.matches('input') && control.value === '';
      put(slot, ...messages.map((message) => h('p', { class: empty ? 'faint missing' : 'problem' }, empty ? 'Still to be written.' : message)));
      if (messages.length) shown.add(slot.dataset.problems);
    }
    for (const control of this.form.querySelectorAll('[data-key]')) {
      const wrong = this.store.problemsAt('scene', control.dataset.key).length > 0;
      control.setAttribute('aria-invalid', String(wrong && control.value !== ''));
    }
    put(this.rest, this.store.problems('scene').filter((one) => !shown.has(one.key)).map(problemLine));
  }
}

function field(label, control) {
  return h('label', { class: 'field' }, h('span', {}, label), control);
}

function problemsFor(key) {
  return h('div', { class: 'problems', 'data-problems': key });
}

function choice(values, chosen, label, key, onchange, texts = {}) {
  // A name that does not exist stays visible, with the problem below it.
  const all = values.includes(chosen) ? values : [...values, chosen];
  const select = h('select', { 'aria-label': label, 'data-key': key, onchange: () => onchange(select.value) },
    all.map((value) => h('option', { value }, texts[value] || value)));
  select.value = chosen;
  return select;
}
