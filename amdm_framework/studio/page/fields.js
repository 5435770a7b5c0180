// Form fields made of what the studio says about options: one control per key, its help, and what is wrong with it.

import { h } from './dom.js';

// `content` is the mapping that holds the keys, `path` leads to it; `edit` gets every change of a value, and a
// name for those that belong together: what is typed into one field.
function fieldOf(option, content, path, edit) {
  const key = path ? `${path}.${option.key}` : option.key;
  const name = `field-${key}`;
  const set = (value, group = key) => edit(() => {
    if (value === undefined) delete content[option.key];
    else content[option.key] = value;
  }, group);
  const control = controlOf(option, content[option.key], set, option.key in content);
  for (const [attribute, value] of Object.entries({ id: name, 'data-key': key, 'aria-describedby': `${name}-help` })) {
    control.setAttribute(attribute, value);
  }
  return h('div', { class: `field ${option.kind}` },
    h('label', { for: name, title: option.help }, words(option.key), option.required ? h('span', { class: 'required', title: 'must be given' }, ' *') : null),
    control,
    h('div', { class: 'problems', 'data-problems': key }),
    h('p', { class: 'help', id: `${name}-help` }, option.help));
}

export function fieldsOf(options, content, path, edit) {
  return h('div', { class: 'fields' }, options.map((option) => fieldOf(option, content, path, edit)));
}

// The important ones in sight, the others one click away, with what `more` makes; one that has a value is always in sight.
export function formOf(options, content, path, edit, important, opened, more = () => []) {
  const inSight = options.filter((option) => important(option) || option.key in content);
  const others = options.filter((option) => !inSight.includes(option));
  const parts = [fieldsOf(inSight, content, path, edit)];
  const further = more();
  if (others.length || further.length) {
    parts.push(fold(`${path}:more`, 'More options', opened, () => [fieldsOf(others, content, path, edit), ...further]));
  }
  return parts;
}

// A part that opens; `opened` remembers what was open when forms are made anew.
export function fold(id, title, opened, make) {
  const details = h('details', { open: opened.has(id), 'data-fold': id, ontoggle: () => {
    if (details.open) opened.add(id);
    else opened.delete(id);
  } }, h('summary', {}, title), make());
  return details;
}

function controlOf(option, value, set, given) {
  const standard = option.default === null || option.default === undefined ? '' : written(option.default);
  // What comes in place of a value that is not given stands in brackets in the help, for a list not as it would be typed.
  const inWords = option.kind === 'yaml' ? null : option.help.match(/\[([^\]]+)\]\.?$/);
  const example = standard || (inWords || [])[1] || option.type.replace(/ \| null$/, '');
  if (option.kind === 'switch' || option.kind === 'choice') {
    const values = option.kind === 'switch' ? [false, true] : option.choices;
    const select = h('select', { onchange: () => set(select.value === '' ? undefined : values[Number(select.value)], null) },
      option.required ? null : h('option', { value: '' }, standard === '' ? 'not set' : `${standard} (default)`),
      values.map((one, index) => h('option', { value: index }, written(one))));
    select.value = given ? String(values.findIndex((one) => one === value)) : '';
    return select;
  }
  if (option.kind === 'number' || option.kind === 'integer') {
    const input = h('input', { type: 'text', inputmode: 'decimal', value: given ? written(value) : '', placeholder: example,
      oninput: () => set(input.value.trim() === '' ? undefined : numberOr(input.value.trim())) });
    return input;
  }
  if (option.kind === 'yaml') {
    const text = given && value && value.$yaml !== undefined ? value.$yaml : given ? JSON.stringify(value) : '';
    const input = h('input', { type: 'text', class: 'code', spellcheck: 'false', value: text, placeholder: example,
      oninput: () => set(input.value.trim() === '' ? undefined : { $yaml: input.value }) });
    return input;
  }
  const input = h('input', { type: 'text', spellcheck: 'false', class: option.kind === 'reference' ? 'code' : '', value: given ? written(value) : '',
    placeholder: option.kind === 'reference' && !standard ? 'hf://owner/repo, or a path' : example, list: option.kind === 'reference' ? 'references' : null,
    // An empty text is a value where the standard is another one.
    oninput: () => set(input.value === '' && !option.required && standard === '' ? undefined : input.value) });
  return input;
}

function numberOr(text) {
  // What is no number is sent as it is: the answer says so at the field.
  const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
  return Number.isFinite(number) ? number : text;
}

function written(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function words(key) {
  return key.replaceAll('_', ' ');
}
