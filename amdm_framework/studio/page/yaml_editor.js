// A part as text. What is typed is checked as it is; the forms take it over once it can be read.

import { h, put } from './dom.js';

export function yamlEditor(store, part) {
  const problems = h('div', { class: 'problems' });
  const text = h('textarea', { class: 'yaml-text', spellcheck: 'false', rows: 26, 'aria-label': `${part} as YAML`, autocapitalize: 'off',
    oninput: () => store.type(part, text.value) });
  const save = h('a', { class: 'button', download: `${part}.yaml`, href: '#', onclick: () => {
    save.href = `data:application/yaml;charset=utf-8,${encodeURIComponent(text.value)}`;
  } }, 'Save as file');
  const file = h('input', { type: 'file', accept: '.yaml,.yml', hidden: true, onchange: async () => {
    text.value = await file.files[0].text();
    file.value = '';
    store.type(part, text.value);
  } });
  const load = h('button', { type: 'button', class: 'button', onclick: () => file.click() }, 'Load a file');
  const element = h('div', { class: 'yaml-editor' }, text, problems, h('div', { class: 'tools' }, save, load, file));

  function refresh() {
    if (text.getRootNode().activeElement !== text || !store.typed[part]) text.value = store.texts[part];
  }

  store.on(`${part}-text`, refresh);
  store.on('answer', () => {
    put(problems, ...store.problems(part).map((one) => h('p', { class: 'problem' }, one.key ? `${one.key}: ${one.message}` : one.message)));
  });
  return {
    element,
    show(visible) {
      element.hidden = !visible;
      if (visible) {
        text.value = store.texts[part];
        store.left[part] = false;
      } else {
        store.leave(part);
      }
    },
  };
}
