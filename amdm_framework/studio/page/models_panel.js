// The composition: members, their options, the rule of aggregation and the sampler; and whether all that fits.

import { h, icon, iconButton, problemLine, put } from './dom.js';
import { fieldsOf, fold, formOf } from './fields.js';
import { keepFocus } from './focus.js';
import { PartViews } from './part_views.js';

const IN_SIGHT = { sampler: ['steps', 'guidance_scale', 'eta'], aggregation: ['steps', 'weights'] };

export class ModelsPanel {
  constructor(store) {
    this.store = store;
    this.opened = new Set();
    this.dragged = null;
    this.verdict = h('div', { class: 'verdict', role: 'status' });
    this.parts = h('div', {});
    this.rest = h('div', { class: 'problems' });
    this.form = h('div', {}, this.parts, this.rest);
    const views = new PartViews(store, 'composition', 'Models', 'Form', this.form);
    this.element = h('section', { class: 'panel models', 'aria-label': 'Models' }, views.head, this.verdict, this.form, views.text);
    store.on('composition', () => this.show());
    store.on('answer', () => this.showAnswer());
  }

  // What fields call to change a value.
  editing(before = () => {}) {
    return (change, group) => this.store.editComposition((composition) => { before(composition); change(); }, false, group && `composition ${group}`);
  }

  show() {
    const { composition, installed } = this.store;
    const add = h('select', { class: 'add', 'aria-label': 'Add a model', onchange: () => this.add(add.value) },
      h('option', { value: '' }, '+ Add a model'),
      installed.providers.map((one) => h('option', { value: one.name, title: one.summary }, `${one.name}: ${one.summary}`)));
    keepFocus(this.parts, () => put(this.parts,
      h('ol', { class: 'members' }, composition.providers.map((block, index) => this.member(block, index))),
      add, this.aggregation(), this.sampler(), this.execution(),
      h('datalist', { id: 'references' }, this.references().map((value) => h('option', { value })))));
    this.showAnswer();
  }

  // Weights that any starting point names: good to have at hand.
  references() {
    const found = new Set();
    const look = (value) => {
      if (typeof value === 'string' && value.includes('://')) found.add(value);
      else if (value && typeof value === 'object') Object.values(value).forEach(look);
    };
    this.store.installed.starts.forEach((start) => look(start.composition));
    look(this.store.composition);
    return [...found].sort();
  }

  add(use) {
    if (!use) return;
    this.store.editComposition((all) => all.providers.push({ use }));
  }

  move(from, to) {
    const { providers } = this.store.composition;
    if (to < 0 || to >= providers.length || from === to) return;
    this.store.editComposition(() => providers.splice(to, 0, ...providers.splice(from, 1)));
  }

  member(block, index) {
    const { store } = this;
    const path = `providers.${index}`;
    const provider = store.provider(block.use);
    const last = store.composition.providers.length - 1;
    const own = store.installed.member;
    const grip = h('span', { class: 'grip', draggable: 'true', title: 'Drag to another place',
      ondragstart: (event) => { this.dragged = index; event.dataTransfer.setData('text/plain', ''); event.dataTransfer.effectAllowed = 'move'; },
      ondragend: () => { this.dragged = null; } }, icon('grip'));
    const target = index ? null : h('span', { class: 'badge', title: 'It draws in every step and decodes the picture; the others help in the first steps' }, 'target');
    const card = h('li', { class: 'card member', 'data-member': index,
      ondragover: (event) => { if (this.dragged !== null) { event.preventDefault(); card.classList.add('over'); } },
      ondragleave: () => card.classList.remove('over'),
      ondrop: (event) => { if (this.dragged !== null) { event.preventDefault(); event.stopPropagation(); this.move(this.dragged, index); } } },
    h('div', { class: 'member-head' }, grip, h('strong', {}, block.name || block.use),
      iconButton('up', `Move ${block.use} up`, () => this.move(index, index - 1), { disabled: index === 0 }),
      iconButton('down', `Move ${block.use} down`, () => this.move(index, index + 1), { disabled: index === last }),
      iconButton('remove', `Remove ${block.use}`, () => store.editComposition((all) => all.providers.splice(index, 1)), { disabled: last === 0 })),
    h('p', { class: 'summary' }, target, provider ? provider.summary : null),
    h('div', { class: 'problems', 'data-problems': path }), h('div', { class: 'problems', 'data-problems': `${path}.use` }));
    if (!provider) return card;
    // What stands in `condition` replaces parts of what the model takes from the scene.
    const condition = new Proxy({}, {
      get: (_, key) => (block.condition || {})[key],
      has: (_, key) => key in (block.condition || {}),
      set: (_, key, value) => { block.condition = { ...block.condition, [key]: value }; return true; },
      deleteProperty: (_, key) => {
        const { [key]: _gone, ...others } = block.condition || {};
        if (Object.keys(others).length) block.condition = others;
        else delete block.condition;
        return true;
      },
    });
    const conditions = provider.condition.map((option) => ({ ...option, required: false, default: null }));
    card.append(...formOf(provider.options, block, path, this.editing(), (option) => option.required, this.opened, () => [
      h('h4', {}, 'Guidance, name and device'), fieldsOf(own, block, path, this.editing()),
      h('h4', {}, 'In place of what the scene says'), fieldsOf(conditions, condition, `${path}.condition`, this.editing()),
    ]));
    return card;
  }

  aggregation() {
    const { composition, installed } = this.store;
    const block = composition.aggregation || {};
    const name = block.strategy || installed.default_strategy;
    const strategy = installed.strategies.find((one) => one.name === name);
    const select = h('select', { 'aria-label': 'Strategy', 'data-key': 'aggregation.strategy',
      onchange: () => this.store.editComposition((all) => { all.aggregation = { strategy: select.value }; }) },
    installed.strategies.map((one) => h('option', { value: one.name, title: one.summary }, one.name)),
    strategy ? null : h('option', { value: name }, name));
    select.value = name;
    const card = h('div', { class: 'card', 'data-part': 'aggregation' }, h('h3', {}, 'Aggregation'), select, h('div', { class: 'problems', 'data-problems': 'aggregation.strategy' }));
    if (!strategy) return card;
    card.append(h('p', { class: 'summary' }, strategy.summary), h('p', { class: 'formula', title: strategy.source }, strategy.formula));
    const edit = this.editing((all) => { all.aggregation = block; });
    card.append(...formOf(strategy.options, block, 'aggregation', edit, (option) => IN_SIGHT.aggregation.includes(option.key), this.opened));
    return card;
  }

  sampler() {
    const block = this.store.composition.sampler || {};
    const edit = this.editing((all) => { all.sampler = block; });
    return h('div', { class: 'card', 'data-part': 'sampler' }, h('h3', {}, 'Sampler'), ...formOf(this.store.installed.sampler, block, 'sampler', edit,
      (option) => IN_SIGHT.sampler.includes(option.key), this.opened));
  }

  execution() {
    const { composition, installed } = this.store;
    return h('div', { class: 'card' }, fold('execution', 'How networks are run', this.opened,
      () => fieldsOf(installed.execution, composition, '', this.editing())));
  }

  showAnswer() {
    const { store } = this;
    const problems = store.problems('composition');
    const shown = new Set();
    for (const slot of this.form.querySelectorAll('[data-problems]')) {
      const messages = store.problemsAt('composition', slot.dataset.problems);
      put(slot, ...messages.map((message) => h('p', { class: 'problem' }, message)));
      if (!messages.length) continue;
      shown.add(slot.dataset.problems);
      for (let fold = slot.closest('details'); fold; fold = fold.parentElement.closest('details')) fold.open = true;
    }
    for (const control of this.form.querySelectorAll('[data-key]')) {
      control.setAttribute('aria-invalid', String(problems.some((one) => one.key === control.dataset.key)));
    }
    put(this.rest);
    // What is wrong below a field (an entry of a list) is shown at the nearest place above it.
    for (const one of problems.filter((problem) => !shown.has(problem.key))) {
      const slot = this.nearest(one.key);
      slot.append(problemLine(slot === this.rest ? one : { message: one.message }));
    }
    this.showVerdict(problems.length);
  }

  nearest(key) {
    const slots = [...this.form.querySelectorAll('[data-problems]')];
    for (let at = key; at; at = at.includes('.') ? at.slice(0, at.lastIndexOf('.')) : '') {
      const found = slots.find((slot) => slot.dataset.problems === at);
      if (found) return found;
    }
    return this.rest;
  }

  showVerdict(count) {
    const { cost, incompatible } = this.store.answer;
    if (incompatible) {
      this.verdict.className = 'verdict bad';
      put(this.verdict, h('strong', {}, 'These models cannot be aggregated'), h('pre', {}, incompatible));
    } else if (count || !cost) {
      this.verdict.className = 'verdict';
      put(this.verdict, h('span', {}, count ? `${count} ${count === 1 ? 'thing' : 'things'} to mend below` : 'Checking…'));
    } else {
      this.verdict.className = 'verdict good';
      const downloads = [...new Set(cost.members.flatMap((member) => member.downloads))];
      put(this.verdict,
        h('strong', {}, cost.members.length > 1 ? 'These models fit' : 'Ready'),
        h('span', {}, `${cost.evaluations} evaluations a picture`), h('span', {}, inUnits(cost.unique_bytes)),
        cost.width ? h('span', {}, `${cost.width}×${cost.height}`) : null,
        h('span', { class: 'faint' }, cost.members.map((member) => `${member.name} ${member.evaluations}`).join(' · ')),
        ...cost.unknown.map((text) => h('p', { class: 'faint' }, text)),
        downloads.length ? h('p', {}, `Will be downloaded first: ${downloads.join(', ')}`) : null);
    }
  }
}

function inUnits(bytes) {
  if (!bytes) return 'size unknown';
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = Math.min(3, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toPrecision(3)} ${units[power]} of weights`;
}

