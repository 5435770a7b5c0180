// What the page is working on, and who wants to know when it changes.

import { fitted } from './shapes.js';

const MOST_UNDONE = 100;
const PARTS = ['composition', 'scene'];

export class Store {
  constructor(installed) {
    this.installed = installed;
    this.composition = null;
    this.scene = null;
    this.texts = { composition: '', scene: '' };
    // Parts that are being edited as YAML at the moment: the text is sent in place of the content.
    this.typed = { composition: false, scene: false };
    // Of those: what the last answer was about, and the keys of it that a form would lose; null where it cannot be read.
    this.read = { composition: null, scene: null };
    this.lost = { composition: null, scene: null };
    // Parts of which the form was asked for before that answer had come.
    this.left = { composition: false, scene: false };
    this.answer = { problems: [], cost: null, incompatible: '' };
    this.selected = null;
    this.undone = [];
    this.done = [];
    this.group = null;
    this.listeners = [];
  }

  on(event, action) {
    this.listeners.push([event, action]);
  }

  tell(event) {
    for (const [wanted, action] of this.listeners) if (wanted === event) action();
  }

  provider(name) {
    return this.installed.providers.find((one) => one.name === name);
  }

  // Both parts at once: an example, or what a picture carries.
  begin(composition, scene) {
    this.remember();
    this.selected = null;
    this.restore(JSON.stringify({ composition, scene, texts: {} }));
  }

  // `structure` is false where only a value changed, so that a form keeps its fields while somebody types. Edits of one
  // `group` that follow each other are undone together: what was typed into a field.
  editComposition(change, structure = true, group = null) {
    this.remember(group);
    change(this.composition);
    if (structure) this.tell('composition');
    this.tell('edited');
  }

  editScene(change, structure = true, group = null) {
    this.remember(group);
    change(this.scene);
    this.tell(structure ? 'scene' : 'scene-values');
    this.tell('edited');
  }

  // The end of a change that was shown while it went on (a box that was dragged); `before` is the snapshot of its beginning.
  endChange(before) {
    if (this.snapshot() === before) return;
    this.remember(null, before);
    this.tell('scene');
    this.tell('edited');
  }

  // All that is worked on, as text: for undoing, and for a page that is loaded anew.
  snapshot() {
    const texts = Object.fromEntries(PARTS.filter((part) => this.typed[part]).map((part) => [part, this.texts[part]]));
    return JSON.stringify({ composition: this.composition, scene: this.scene, texts });
  }

  restore(snapshot) {
    const { composition, scene, texts } = JSON.parse(snapshot);
    this.composition = fitted('composition', composition).content;
    this.scene = fitted('scene', scene).content;
    for (const part of PARTS) {
      this.typed[part] = typeof texts[part] === 'string';
      this.left[part] = false;
      if (this.typed[part]) this.texts[part] = texts[part];
    }
    this.group = null;
    if (!Object.hasOwn(this.scene.instances, this.selected)) this.selected = null;
    for (const part of PARTS) this.tell(part);
    this.tell('edited');
  }

  // Before every change. What is still going on with the mouse ends first.
  remember(group = null, now = null) {
    this.tell('changing');
    if (!this.scene || (group && group === this.group)) return;
    this.group = group;
    this.undone = [];
    const before = now || this.snapshot();
    if (this.done.at(-1) === before) return;
    this.done.push(before);
    if (this.done.length > MOST_UNDONE) this.done.shift();
  }

  undo(back = true) {
    this.tell('changing');
    const [from, to] = back ? [this.done, this.undone] : [this.undone, this.done];
    const now = this.snapshot();
    while (from.length && from.at(-1) === now) from.pop();
    if (!from.length) return;
    to.push(now);
    this.restore(from.pop());
  }

  type(part, text) {
    this.remember(`${part} as text`);
    this.texts[part] = text;
    this.typed[part] = true;
    this.left[part] = false;
    this.tell('edited');
  }

  // To the form, as soon as the answer about the text is here; not where the form would lose some of it.
  leave(part) {
    this.left[part] = true;
    this.settle(part);
  }

  settle(part) {
    if (!this.left[part] || (this.typed[part] && this.read[part] !== this.texts[part])) return;
    this.left[part] = false;
    if (!this.typed[part]) this.tell(`${part}-left`);
    else if (!this.lost[part] || this.lost[part].length) this.tell(`${part}-kept`);
    else {
      this.typed[part] = false;
      this.group = null;
      this.tell(`${part}-left`);
      this.tell(part);
      this.tell('edited');
    }
  }

  // What is sent to be checked or drawn.
  get draft() {
    return {
      composition: this.typed.composition ? this.texts.composition : this.composition,
      scene: this.typed.scene ? this.texts.scene : this.scene,
    };
  }

  // `sent` is the draft that was checked: what was edited since then is newer than the answer.
  take(answer, sent) {
    this.answer = answer;
    this.tell('answer');
    for (const part of PARTS) {
      const content = answer[part];
      if (JSON.stringify(sent[part]) !== JSON.stringify(this.draft[part])) continue;
      if (this.typed[part]) {
        this.read[part] = sent[part];
        this.lost[part] = null;
        if (content !== null) {
          const found = fitted(part, content);
          this.lost[part] = found.lost;
          this[part] = found.content;
          this.tell(part);
        }
        this.settle(part);
      } else if (content !== null) {
        this.texts[part] = answer[`${part}_yaml`];
        this.tell(`${part}-text`);
      }
    }
  }

  problemsAt(part, key) {
    return this.answer.problems.filter((one) => one.part === part && one.key === key).map((one) => one.message);
  }

  problems(part) {
    return this.answer.problems.filter((one) => one.part === part);
  }
}
