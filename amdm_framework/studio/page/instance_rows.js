// The list of instances: colour, name, phrase and box of each. A row stays the same elements for as long as its instance
// is there, whatever it is called: what is clicked or typed in must not be replaced in the middle of it.

import { chosenWord, colourOf, colourWord, colourWords } from './colours.js';
import { afterClick, h, iconButton } from './dom.js';

const AUTOMATIC = /^object-\d+$/;
const SIDES = ['left', 'top', 'right', 'bottom'];

export class InstanceRows {
  // `onremove` is called with the name of the instance whose button was pressed.
  constructor(store, say, onremove) {
    Object.assign(this, { store, say, onremove });
    this.rows = new Map();
    this.none = h('p', { class: 'faint' }, 'None yet: drag on the picture above.');
    this.element = h('div', { class: 'rows' });
    store.on('selected', () => this.showValues());
    store.on('scene-values', () => this.showValues());
  }

  show() {
    const names = Object.keys(this.store.scene.instances);
    for (const name of [...this.rows.keys()].filter((one) => !names.includes(one))) this.rows.delete(name);
    for (const name of names) if (!this.rows.has(name)) this.rows.set(name, this.row(name));
    const wanted = names.length ? names.map((name) => this.rows.get(name).element) : [this.none];
    for (const child of [...this.element.children]) if (!wanted.includes(child)) child.remove();
    wanted.forEach((child, index) => {
      if (this.element.children[index] !== child) this.element.insertBefore(child, this.element.children[index] || null);
    });
    this.showValues();
  }

  showValues() {
    for (const [name, row] of this.rows) if (Object.hasOwn(this.store.scene.instances, name)) row.show();
  }

  row(given) {
    const { store } = this;
    const row = { name: given };
    const edit = (change, structure, group) => store.editScene((scene) => change(scene.instances[row.name]), structure, group);
    const name = h('input', { class: 'name', title: 'Its name in the scene', onchange: () => afterClick(() => this.rename(row, name.value.trim())) });
    const phrase = h('input', { placeholder: 'what it is, e.g. a red circle',
      oninput: () => edit((one) => { one.phrase = phrase.value; }, false, `phrase ${row.name}`), onchange: () => afterClick(() => this.nameByPhrase(row)) });
    const colour = h('select', { class: 'colour', title: 'Colour: a word in the phrase',
      onchange: () => store.editScene((scene) => {
        const one = scene.instances[row.name];
        const before = one.phrase;
        one.phrase = withColour(before, colour.value);
        // Models read the caption as well: two that say different colours of one thing are no help to them.
        if (before && scene.caption && scene.caption.includes(before)) scene.caption = scene.caption.replace(before, one.phrase);
      }) },
    h('option', { value: '' }, 'no colour'), ...colourWords().map((word) => h('option', { value: word }, word)));
    const sides = SIDES.map((side, index) => h('input', { type: 'number', min: 0, max: 1, step: 0.01, 'data-box': index,
      onchange: ({ target }) => {
        // Empty, or no number: what was there before is shown again.
        if (Number.isFinite(target.valueAsNumber)) edit((one) => { one.box[index] = Math.min(1, Math.max(0, target.valueAsNumber)); }, false);
        else target.value = store.scene.instances[row.name].box[index];
      } }));
    const numbers = h('div', { class: 'numbers' }, sides.map((input, index) => h('label', {}, SIDES[index], input)));
    const remove = iconButton('remove', '', () => this.onremove(row.name));
    const slots = ['phrase', '', 'box'].map((key) => [key, h('div', { class: 'problems' })]);
    // Chosen once the click is over, or the key is up: boxes' numbers come and go with it, and move what is below.
    row.element = h('div', { class: 'row instance', onclick: () => this.choose(row), onkeyup: () => this.choose(row) },
      colour, h('div', { class: 'grow' }, name, phrase, slots[0][1]), remove, numbers, slots[1][1], slots[2][1]);
    row.show = () => {
      const one = store.scene.instances[row.name];
      const key = `instances.${row.name}`;
      const chosen = store.selected === row.name;
      const active = row.element.getRootNode().activeElement;
      row.element.dataset.instance = row.name;
      row.element.classList.toggle('chosen', chosen);
      numbers.hidden = !chosen;
      if (active !== name) name.value = row.name;
      // Whoever types in it has just changed the phrase to what is there.
      if (phrase.value !== (one.phrase || '')) phrase.value = one.phrase || '';
      colour.value = chosenWord(one.phrase);
      colour.style.setProperty('--own', colourOf(store.scene, row.name));
      sides.forEach((input, index) => { if (active !== input) input.value = one.box[index]; });
      name.dataset.key = key;
      phrase.dataset.key = `${key}.phrase`;
      for (const [end, slot] of slots) slot.dataset.problems = end ? `${key}.${end}` : key;
      const labels = [[colour, 'colour of'], [name, 'name of'], [phrase, 'phrase of'], [remove, 'Delete'],
        ...sides.map((input, index) => [input, `${SIDES[index]} of`])];
      for (const [control, text] of labels) control.setAttribute('aria-label', `${text} ${row.name}`);
      remove.title = `Delete ${row.name}`;
    };
    return row;
  }

  choose(row) {
    if (this.store.selected === row.name || !Object.hasOwn(this.store.scene.instances, row.name)) return;
    this.store.selected = row.name;
    this.store.tell('selected');
  }

  // `object-1` was nobody's choice: what its phrase calls it reads better in the YAML.
  nameByPhrase(row) {
    if (!Object.hasOwn(this.store.scene.instances, row.name)) return;
    const word = (this.store.scene.instances[row.name].phrase.toLowerCase().match(/[\p{L}\d]+/gu) || []).at(-1);
    if (!AUTOMATIC.test(row.name) || !word) return;
    let wanted = word;
    for (let number = 2; Object.hasOwn(this.store.scene.instances, wanted); number += 1) wanted = `${word} ${number}`;
    this.rename(row, wanted);
  }

  rename(row, wanted) {
    const { store } = this;
    const old = row.name;
    if (wanted === old || !Object.hasOwn(store.scene.instances, old)) return;
    if (!wanted || Object.hasOwn(store.scene.instances, wanted)) {
      this.say(wanted ? `There is another instance named ${wanted}.` : 'An instance needs a name.');
      row.element.querySelector('.name').value = old;
      return;
    }
    if (store.selected === old) store.selected = wanted;
    this.rows.delete(old);
    this.rows.set(wanted, row);
    row.name = wanted;
    store.editScene((scene) => {
      // In its place: the order of instances is the order in which models get them.
      scene.instances = Object.fromEntries(Object.entries(scene.instances).map(([key, one]) => [key === old ? wanted : key, one]));
      for (const one of scene.interactions) {
        if (one.subject === old) one.subject = wanted;
        if (one.object === old) one.object = wanted;
      }
      for (const one of scene.references) if (one.instance === old) one.instance = wanted;
    });
  }
}

function withColour(phrase, colour) {
  const word = colourWord(phrase);
  const rest = word ? phrase.replace(new RegExp(`\\b${word}\\b\\s*`, 'i'), '') : phrase || '';
  if (!colour) return rest.trim();
  const article = rest.match(/^(an?|the)\s+/i);
  if (!article) return `${colour} ${rest}`.trim();
  const the = /^an?$/i.test(article[1]) ? (/^[aeiou]/.test(colour) ? 'an' : 'a') : article[1];
  return `${the} ${colour} ${rest.slice(article[0].length)}`.trim();
}
