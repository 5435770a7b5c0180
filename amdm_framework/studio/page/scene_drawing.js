// A scene as SVG: boxes, labels and arrows, on the stage and over finished pictures.

import { colourOf, inkOn } from './colours.js';
import { s } from './dom.js';

export const WIDTH = 1000;

// What a text takes in units of the view box, in the font that the style sheet gives it.
const pen = document.createElement('canvas').getContext('2d');
function widthOf(text, size) {
  pen.font = `600 ${size}px ui-sans-serif, system-ui, sans-serif`;
  return pen.measureText(text).width;
}

export function rectOf(box, height, kind, colour) {
  return s('rect', {
    class: kind, x: box[0] * WIDTH, y: box[1] * height, width: Math.max(0, box[2] - box[0]) * WIDTH,
    height: Math.max(0, box[3] - box[1]) * height, rx: 8, style: colour ? `--own: ${colour}` : null,
  });
}

// In a view box of 1000 by `height`.
export function drawScene(scene, height, selected) {
  const parts = [];
  const names = Object.keys(scene.instances || {});
  const area = (name) => {
    const [left, top, right, bottom] = scene.instances[name].box;
    return (right - left) * (bottom - top);
  };
  // Small ones on top of large ones.
  for (const name of [...names].sort((a, b) => area(b) - area(a))) {
    const { box, phrase } = scene.instances[name];
    const colour = colourOf(scene, name);
    parts.push(rectOf(box, height, name === selected ? 'box chosen' : 'box', colour));
    const label = shortened(phrase || name, Math.max(6, Math.floor(((1 - box[0]) * WIDTH) / 17) - 2));
    const width = widthOf(label, 28) + 24;
    const y = box[1] * height;
    parts.push(s('g', { class: 'label', style: `--own: ${colour}` },
      s('rect', { x: box[0] * WIDTH, y: y >= 44 ? y - 42 : y + 4, width, height: 38, rx: 8 }),
      s('text', { x: box[0] * WIDTH + 11, y: (y >= 44 ? y - 42 : y + 4) + 27, style: `fill: ${inkOn(colour)}` }, label)));
  }
  (scene.interactions || []).forEach((one, number) => {
    const [from, to] = [scene.instances[one.subject], scene.instances[one.object]];
    if (from && to) parts.push(...arrow(from.box, to.box, one.subject === one.object, one.action, number, height));
  });
  return parts;
}

function arrow(from, to, loop, action, number, height) {
  const middle = (box) => [((box[0] + box[2]) / 2) * WIDTH, ((box[1] + box[3]) / 2) * height];
  const [x0, y0] = middle(from);
  let path;
  let [labelX, labelY] = [x0, y0];
  if (loop) {
    // Below the box where there is room, or else above its lower edge.
    const y = from[3] * height;
    const down = y + 84 < height ? 1 : -1;
    path = `M${x0 - 44} ${y}C${x0 - 84} ${y + 78 * down} ${x0 + 84} ${y + 78 * down} ${x0 + 44} ${y + 4 * down}`;
    labelY = y + 58 * down;
  } else {
    const [x1, y1] = edge(middle(to), [x0, y0], to, height);
    const [xs, ys] = edge([x0, y0], middle(to), from, height);
    const [cx, cy] = [(xs + x1) / 2 - (y1 - ys) * 0.12, (ys + y1) / 2 + (x1 - xs) * 0.12];
    path = `M${xs} ${ys}Q${cx} ${cy} ${x1} ${y1}`;
    [labelX, labelY] = [(xs + 2 * cx + x1) / 4, (ys + 2 * cy + y1) / 4];
  }
  const text = shortened(action || '…', 24);
  const width = widthOf(text, 26) + 34;
  const left = Math.min(WIDTH - width, Math.max(0, labelX - width / 2));
  return [
    s('path', { class: 'arrow', d: path, 'marker-end': 'url(#tip)' }),
    s('defs', {}, s('marker', { id: 'tip', viewBox: '0 0 10 10', refX: 8, refY: 5, markerWidth: 5, markerHeight: 5, orient: 'auto-start-reverse' },
      s('path', { class: 'tip', d: 'M0 0 10 5 0 10z' }))),
    s('g', { class: 'action', 'data-link': number },
      s('rect', { 'data-link': number, x: left, y: labelY - 19, width, height: 38, rx: 19 }),
      s('text', { 'data-link': number, x: left + width / 2, y: labelY + 8 }, text)),
  ];
}

// Where the line from the middle of a box towards a point leaves the box.
function edge([x, y], [tx, ty], box, height) {
  const [dx, dy] = [tx - x, ty - y];
  if (!dx && !dy) return [x, y];
  const scale = Math.min(
    dx ? ((box[2] - box[0]) * WIDTH) / 2 / Math.abs(dx) : Infinity,
    dy ? ((box[3] - box[1]) * height) / 2 / Math.abs(dy) : Infinity,
    0.5,
  );
  return [x + dx * scale, y + dy * scale];
}

function shortened(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
