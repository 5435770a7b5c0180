// Elements, icons and small things that every part of the page uses. Text always goes in as text, never as HTML.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter(isShown));
  return element;
}

function isShown(child) {
  return child !== null && child !== undefined && child !== false;
}

// In place of whatever an element held.
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter(isShown));
}

export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const ICONS = {
  box: 'M4 4h12v12H4z',
  arrow: 'M4 16 15 5M9 5h6v6',
  undo: 'M8 5 4 9l4 4M4 9h8a4 4 0 0 1 0 8H9',
  redo: 'm12 5 4 4-4 4M16 9H8a4 4 0 0 0 0 8h3',
  remove: 'M5 5l10 10M15 5 5 15',
  up: 'm5 12 5-5 5 5',
  down: 'm5 8 5 5 5-5',
  plus: 'M10 4v12M4 10h12',
  dice: 'M4 4h12v12H4zM7.5 7.5h.01M12.5 12.5h.01M12.5 7.5h.01M7.5 12.5h.01M10 10h.01',
  theme: 'M10 3a7 7 0 1 0 7 7 5.5 5.5 0 0 1-7-7z',
  download: 'M10 3v9M6 9l4 4 4-4M4 16h12',
  reload: 'M15.5 7A6 6 0 1 0 16 11M16 4v3.5h-3.5',
  grip: 'M8 5h.01M12 5h.01M8 10h.01M12 10h.01M8 15h.01M12 15h.01',
};

export function icon(name) {
  return s('svg', { viewBox: '0 0 20 20', class: 'icon', 'aria-hidden': 'true' }, s('path', { d: ICONS[name] }));
}

export function iconButton(name, label, onclick, extra) {
  return h('button', { type: 'button', class: 'quiet', title: label, 'aria-label': label, onclick, ...extra }, icon(name));
}

export function debounce(action, milliseconds) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...given), milliseconds);
  };
}

let pressed = false;
const waiting = [];
const flush = () => { for (const action of waiting.splice(0)) action(); };
addEventListener('pointerdown', () => { pressed = true; }, true);
// A menu takes the end of the press that opened it.
for (const event of ['pointerup', 'pointercancel', 'contextmenu']) {
  addEventListener(event, () => {
    pressed = false;
    setTimeout(flush);
  }, true);
}

// For what makes lists anew when a field is left: in the middle of the click that leaves it, that would swallow the click.
export function afterClick(action) {
  waiting.push(action);
  if (!pressed) flush();
}

// What is wrong, with its key where it does not stand beside the control of it.
export function problemLine({ key, message }) {
  return h('p', { class: 'problem' }, key ? `${key}: ${message}` : message);
}

// A row of buttons of which one is pressed.
export function segmented(label, choices, chosen, onchoose) {
  return h('div', { class: 'segmented', role: 'group', 'aria-label': label },
    choices.map(([value, text]) => h('button', {
      type: 'button', 'aria-pressed': String(value === chosen), 'data-value': value, onclick: () => onchoose(value),
    }, text)));
}
