// The two views of a part, its form and its text, and the switch between them. The text stays where it was typed for as
// long as the form would lose some of it.

import { h, segmented } from './dom.js';
import { yamlEditor } from './yaml_editor.js';

export class PartViews {
  // `name` is what the form is called on its button.
  constructor(store, part, title, name, form) {
    Object.assign(this, { store, part, name, form });
    this.switch = segmented(`${title} as`, [['form', name], ['yaml', 'YAML']], 'form',
      (view) => (view === 'form' ? store.leave(part) : this.stay()));
    this.head = h('div', { class: 'head' }, h('h2', {}, title), this.switch);
    this.reason = h('p', { class: 'problem', role: 'status', hidden: true });
    this.text = h('div', {}, this.reason, yamlEditor(store, part));
    // What is brought back may have been text.
    store.on(part, () => { if (store.typed[part]) this.show('yaml'); });
    store.on('edited', () => { this.reason.hidden = true; });
    store.on(`${part}-left`, () => this.show('form'));
    store.on(`${part}-kept`, () => this.explain());
    this.show('form');
  }

  show(view) {
    for (const button of this.switch.children) button.setAttribute('aria-pressed', String(button.dataset.value === view));
    this.form.hidden = view !== 'form';
    this.text.hidden = view !== 'yaml';
  }

  stay() {
    this.store.left[this.part] = false;
    this.show('yaml');
  }

  explain() {
    const lost = this.store.lost[this.part];
    this.reason.hidden = false;
    this.reason.textContent = lost ? `“${this.name}” has no place for ${lost.join(', ')}: mend that here first, see below.`
      : `This cannot be read yet, so “${this.name}” has nothing to show of it: mend it here first, see below.`;
  }
}
