// The page: its parts, what goes on between them, and what is dropped onto it.

import { useColours } from './colours.js';
import { debounce, h, iconButton, put, s } from './dom.js';
import { Gallery } from './gallery.js';
import { goOn, keepDraft } from './kept_draft.js';
import { ModelsPanel } from './models_panel.js';
import { PicturePanel } from './picture_panel.js';
import { ScenePanel } from './scene_panel.js';
import { Server } from './server.js';
import { Store } from './store.js';

const SAID_FOR = 7000;
const TABS = [['scene', 'Scene'], ['models', 'Models'], ['picture', 'Picture'], ['gallery', 'Gallery']];

export async function start(element, functions, upload) {
  // A root of its own: nothing of the surrounding page's style gets in.
  const root = element.attachShadow({ mode: 'open' });
  const style = h('link', { rel: 'stylesheet', href: new URL('studio.css', import.meta.url).href });
  const page = h('div', { class: 'studio', 'data-tab': 'scene' });
  await new Promise((done) => {
    style.onload = done;
    style.onerror = done;
    root.append(style, page);
  });
  theme(page, localStorage.getItem('amdm-theme'));
  const server = new Server(functions, upload);
  try {
    build(page, server, await server.open());
  } catch (error) {
    put(page, h('p', { class: 'problem empty' }, error.message));
  }
}

function theme(page, chosen) {
  const dark = chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  page.dataset.theme = dark ? 'dark' : 'light';
  document.documentElement.style.background = dark ? '#131316' : '#f5f4f0';
  document.body.style.background = 'transparent';
}

function build(page, server, installed) {
  useColours(installed);
  const store = new Store(installed);
  const saying = h('div', { class: 'saying', role: 'alert', hidden: true });
  let timer;
  const say = (text) => {
    put(saying, text);
    saying.hidden = false;
    clearTimeout(timer);
    timer = setTimeout(() => { saying.hidden = true; }, SAID_FOR);
  };

  let asked = 0;
  const check = async () => {
    asked += 1;
    const number = asked;
    const sent = structuredClone(store.draft);
    try {
      const answer = await server.check(sent);
      // An answer to an older question would undo what was edited since.
      if (number === asked) store.take(answer, sent);
    } catch (error) {
      say(error.message);
    }
  };
  const checkSoon = debounce(check, 250);
  store.on('edited', checkSoon);

  const open = (found) => {
    store.begin(found.composition, found.scene);
    begin.value = '';
    if (found.seed !== undefined) picture.seeds.value = String(found.seed);
    say('Scene and models are those of the picture now. Undo brings back what was here.');
    tab('scene');
  };
  const gallery = new Gallery(server, say, open);
  const picture = new PicturePanel(store, server, say, open, () => gallery.load(), (name) => tab(name));
  const scene = new ScenePanel(store, server, say);
  const models = new ModelsPanel(store);

  const begin = h('select', { 'aria-label': 'Begin with', onchange: () => {
    const chosen = installed.starts[Number(begin.value)];
    store.begin(chosen.composition, chosen.scene);
  } }, installed.starts.map((one, index) => h('option', { value: index }, one.title)),
  h('option', { value: '', hidden: true }, 'an example…'));
  const undo = (back) => {
    store.undo(back);
    begin.value = '';
  };
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'Parts of the page' }, TABS.map(([name, text]) => h('button', {
    type: 'button', 'data-tab': name, onclick: () => tab(name),
  }, text)));
  function tab(name) {
    page.dataset.tab = name;
    for (const button of tabs.children) button.setAttribute('aria-pressed', String(button.dataset.tab === name));
  }

  put(page,
    h('header', {}, logo(), h('h1', {}, 'amdm studio'), h('label', { class: 'begin' }, h('span', {}, 'Begin with'), begin),
      iconButton('undo', 'Undo (Ctrl+Z)', () => undo(true)),
      iconButton('redo', 'Redo (Ctrl+Y)', () => undo(false)),
      h('span', { class: 'gap' }), h('span', { class: 'badge', title: 'Where networks run' }, installed.device),
      iconButton('theme', 'Light or dark', () => {
        const chosen = page.dataset.theme === 'dark' ? 'light' : 'dark';
        localStorage.setItem('amdm-theme', chosen);
        theme(page, chosen);
      })),
    h('main', {}, scene.element, models.element, picture.element), gallery.element, tabs, saying);
  tab('scene');

  // Also where nothing has the focus: what had it may be what was just removed.
  addEventListener('keydown', (event) => {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || (key !== 'z' && key !== 'y')) return;
    // Text fields undo their own typing.
    if (event.composedPath()[0].matches('input:not([type="checkbox"]), textarea')) return;
    event.preventDefault();
    undo(key === 'z' && !event.shiftKey);
  });
  dropping(page, scene, gallery);
  keepDraft(store);
  if (goOn(store)) begin.value = '';
  else store.begin(installed.starts[0].composition, installed.starts[0].scene);
  gallery.load();
}

// A picture with settings brings them back where it is dropped outside of the scene; in the scene it is a reference.
function dropping(page, scene, gallery) {
  let depth = 0;
  const holdsFiles = (event) => [...event.dataTransfer.types].includes('Files');
  const mark = (event, by) => {
    if (!holdsFiles(event)) return;
    depth += by;
    page.classList.toggle('dropping', depth > 0);
  };
  page.addEventListener('dragenter', (event) => mark(event, 1));
  page.addEventListener('dragleave', (event) => mark(event, -1));
  page.addEventListener('dragover', (event) => { if (holdsFiles(event)) event.preventDefault(); });
  page.addEventListener('drop', (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    page.classList.remove('dropping');
    const files = [...event.dataTransfer.files];
    if (event.composedPath().includes(scene.element)) scene.addPictures(files);
    else gallery.onopenfile(files[0]);
  });
}

function logo() {
  return s('svg', { viewBox: '0 0 32 32', class: 'logo', 'aria-hidden': 'true' },
    s('circle', { cx: 12, cy: 12, r: 8, class: 'one' }), s('circle', { cx: 20, cy: 12, r: 8, class: 'two' }), s('circle', { cx: 16, cy: 19, r: 8, class: 'three' }));
}
