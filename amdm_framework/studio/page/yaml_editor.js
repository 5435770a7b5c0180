// A part as text. What is typed is checked as it is; the forms take it over once it can be read.

import { h, problemLine, put } from './dom.js';

// Far more than the studio reads; a page that has to show such a text stands still.
const MOST_FILE_BYTES = 2 ** 20;

export function yamlEditor(store, part) {
  const problems = h('div', { class: 'problems' });
  const text = h('textarea', { class: 'yaml-text', spellcheck: 'false', rows: 26, 'aria-label': `${part} as YAML`, autocapitalize: 'off',
    oninput: () => store.type(part, text.value) });
  const save = h('a', { class: 'button', download: `${part}.yaml`, href: '#', onclick: () => {
    save.href = `data:application/yaml;charset=utf-8,${encodeURIComponent(text.value)}`;
  } }, 'Save as file');
  const file = h('input', { type: 'file', accept: '.yaml,.yml', hidden: true, onchange: async () => {
    const [chosen] = file.files;
    file.value = '';
    if (chosen.size > MOST_FILE_BYTES) {
      put(problems, h('p', { class: 'problem' }, `${chosen.name} is larger than 1 MiB: it was not loaded`));
      return;
    }
    text.value = await chosen.text();
    store.type(part, text.value);
  } });
  const load = h('button', { type: 'button', class: 'button', onclick: () => file.click() }, 'Load a file');

  store.on(`${part}-text`, () => { if (text.value !== store.texts[part]) text.value = store.texts[part]; });
  store.on(part, () => { if (store.typed[part] && text.value !== store.texts[part]) text.value = store.texts[part]; });
  store.on('answer', () => {
    put(problems, store.problems(part).map(problemLine));
  });
  return h('div', { class: 'yaml-editor' }, text, problems, h('div', { class: 'tools' }, save, load, file));
}
