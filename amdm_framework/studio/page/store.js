// What the page is working on, and who wants to know when it changes.

import { clone } from './dom.js';

const MOST_UNDONE = 100;

export class Store {
  constructor(installed) {
    this.installed = installed;
    this.composition = null;
    this.scene = null;
    this.texts = { composition: '', scene: '' };
    // Parts that are being edited as YAML at the moment: the text is sent in place of the content.
    this.typed = { composition: false, scene: false };
    // Of those: parts whose editor was left before the answer about their text had come.
    this.left = { composition: false, scene: false };
    this.read = { composition: '', scene: '' };
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
    this.composition = clone(composition);
    this.scene = tidyScene(clone(scene));
    this.typed = { composition: false, scene: false };
    this.left = { composition: false, scene: false };
    this.selected = null;
    this.tell('composition');
    this.tell('scene');
    this.tell('edited');
  }

  // `structure` is false where only a value changed, so that a form keeps its fields while somebody types.
  editComposition(change, structure = true) {
    change(this.composition);
    if (structure) this.tell('composition');
    this.tell('edited');
  }

  // Edits of one `group` that follow each other are undone together: what was typed into a field.
  editScene(change, structure = true, group = null) {
    if (!group || group !== this.group) this.remember();
    this.group = group;
    change(this.scene);
    if (structure) this.tell('scene');
    else this.tell('scene-values');
    this.tell('edited');
  }

  // Before a change to the scene, or the first of many small ones (a box that is dragged).
  remember() {
    if (!this.scene) return;
    this.undone = [];
    this.group = null;
    const now = JSON.stringify(this.scene);
    if (this.done.at(-1) === now) return;
    this.done.push(now);
    if (this.done.length > MOST_UNDONE) this.done.shift();
  }

  undo(back = true) {
    const [from, to] = back ? [this.done, this.undone] : [this.undone, this.done];
    const now = JSON.stringify(this.scene);
    while (from.length && from.at(-1) === now) from.pop();
    if (!from.length) return;
    to.push(now);
    this.scene = JSON.parse(from.pop());
    this.typed.scene = false;
    this.group = null;
    if (!Object.hasOwn(this.scene.instances, this.selected)) this.selected = null;
    this.tell('scene');
    this.tell('edited');
  }

  type(part, text) {
    if (part === 'scene' && !this.typed.scene) this.remember();
    this.texts[part] = text;
    this.typed[part] = true;
    this.left[part] = false;
    this.tell('edited');
  }

  // Back to the form: from now on the content counts, as far as the text can be read.
  leave(part) {
    this.left[part] = this.typed[part] && this.read[part] !== this.texts[part];
    if (!this.typed[part] || this.left[part]) return;
    this.typed[part] = false;
    this.tell(part);
    this.tell('edited');
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
    for (const part of ['composition', 'scene']) {
      const content = answer[part];
      if (JSON.stringify(sent[part]) !== JSON.stringify(this.draft[part])) continue;
      if (this.typed[part]) {
        this.read[part] = sent[part];
        if (content !== null) {
          this[part] = part === 'scene' ? tidyScene(content) : tidyComposition(content);
          this.tell(part);
        }
        if (this.left[part]) this.leave(part);
      } else if (content !== null) {
        this.texts[part] = answer[`${part}_yaml`];
        this.tell(`${part}-text`);
      }
    }
    this.tell('answer');
  }

  problemsAt(part, key) {
    return this.answer.problems.filter((one) => one.part === part && one.key === key).map((one) => one.message);
  }

  problems(part) {
    return this.answer.problems.filter((one) => one.part === part);
  }
}

// The page relies on the shape of a scene, which somebody may have typed; what does not fit is shown as a problem.
function tidyScene(scene) {
  const boxed = (one) => one && typeof one === 'object' && Array.isArray(one.box) && one.box.length === 4
    && one.box.every((value) => typeof value === 'number');
  const instances = scene.instances && typeof scene.instances === 'object' ? scene.instances : {};
  return {
    ...scene,
    instances: Object.fromEntries(Object.entries(instances).filter(([, one]) => boxed(one))
      .map(([name, one]) => [name, { ...one, phrase: String(one.phrase ?? '') }])),
    interactions: Array.isArray(scene.interactions) ? scene.interactions.filter((one) => one && typeof one === 'object') : [],
    references: Array.isArray(scene.references) ? scene.references.filter((one) => one && typeof one === 'object') : [],
  };
}

function tidyComposition(composition) {
  const providers = Array.isArray(composition.providers) ? composition.providers : [];
  return { ...composition, providers: providers.filter((one) => one && typeof one === 'object' && typeof one.use === 'string') };
}
