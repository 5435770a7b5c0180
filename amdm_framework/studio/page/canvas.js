// The stage: boxes that are drawn, moved and resized, and arrows between them.

import { put, s } from './dom.js';
import { drawScene, rectOf, WIDTH } from './scene_drawing.js';

const SMALLEST = 0.02;
const SNAP = 9;
const STEP = 0.005;
const HANDLES = [['nw', 0, 0], ['n', 0.5, 0], ['ne', 1, 0], ['e', 1, 0.5], ['se', 1, 1], ['s', 0.5, 1], ['sw', 0, 1], ['w', 0, 0.5]];

const round = (value) => Math.round(value * 1000) / 1000;
const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));

export class Canvas {
  // `onadd` is called with the name of a box that was drawn, `onlink` with the number of an interaction.
  constructor(store, onadd, onlink) {
    this.store = store;
    this.onadd = onadd;
    this.onlink = onlink;
    this.tool = 'box';
    this.drag = null;
    this.guides = [];
    this.height = WIDTH;
    this.element = s('svg', {
      class: 'stage', tabindex: '0', role: 'application', viewBox: `0 0 ${WIDTH} ${WIDTH}`,
      'aria-label': 'The picture: drag to draw a box, or press Enter; arrow keys move the chosen box, Delete removes it',
      onpointerdown: (event) => this.down(event), onpointermove: (event) => this.move(event),
      onpointerup: (event) => this.up(event), onpointercancel: () => this.cancel(),
      onkeydown: (event) => this.key(event),
    });
    store.on('changing', () => this.cancel());
    store.on('scene', () => this.draw());
    store.on('scene-values', () => this.draw());
    store.on('selected', () => this.draw());
    store.on('answer', () => this.shape());
  }

  choose(tool) {
    this.tool = tool;
    this.element.setAttribute('data-tool', tool);
    this.draw();
  }

  // The picture's shape is the one that will be drawn.
  shape() {
    const cost = this.store.answer.cost;
    const height = cost && cost.width && cost.height ? Math.round((WIDTH * cost.height) / cost.width) : this.height;
    if (height === this.height) return;
    this.height = height;
    this.element.setAttribute('viewBox', `0 0 ${WIDTH} ${height}`);
    this.draw();
  }

  place(event) {
    const bounds = this.element.getBoundingClientRect();
    return [(event.clientX - bounds.left) / bounds.width, (event.clientY - bounds.top) / bounds.height];
  }

  // The chosen box where it is hit, or else the smallest one: large boxes often hold others.
  hit([x, y]) {
    const found = Object.entries(this.store.scene.instances)
      .filter(([, one]) => x >= one.box[0] && x <= one.box[2] && y >= one.box[1] && y <= one.box[3])
      .map(([name, { box }]) => [(box[2] - box[0]) * (box[3] - box[1]), name])
      .sort((a, b) => a[0] - b[0]).map(([, name]) => name);
    return found.includes(this.store.selected) && this.tool === 'box' ? this.store.selected : found[0] || null;
  }

  select(name) {
    if (this.store.selected === name) return;
    this.store.selected = name;
    this.store.tell('selected');
  }

  down(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.element.focus({ preventScroll: true });
    const at = this.place(event);
    const handle = event.target.dataset && event.target.dataset.handle;
    const link = event.target.dataset && event.target.dataset.link;
    if (link !== undefined && link !== null) {
      this.onlink(Number(link));
      return;
    }
    this.element.setPointerCapture(event.pointerId);
    if (handle === 'link') this.drag = { kind: 'link', from: this.store.selected, at };
    else if (handle) this.drag = { kind: 'resize', handle, name: this.store.selected, at, box: this.boxOf(this.store.selected) };
    else {
      const name = this.hit(at);
      if (this.tool === 'arrow') this.drag = name ? { kind: 'link', from: name, at } : null;
      else if (name) this.drag = { kind: 'move', name, at, box: this.boxOf(name) };
      else this.drag = { kind: 'new', at, box: [...at, ...at] };
      this.select(name);
    }
    if (this.drag) this.drag.before = this.store.snapshot();
    this.draw();
  }

  boxOf(name) {
    return [...this.store.scene.instances[name].box];
  }

  move(event) {
    const drag = this.drag;
    if (!drag) return;
    const at = this.place(event);
    const free = event.altKey;
    this.guides = [];
    drag.to = at;
    if (drag.kind === 'new') {
      const [x, y] = [this.snap(clamp(at[0]), 0, null, free), this.snap(clamp(at[1]), 1, null, free)];
      const [x0, y0] = drag.at.map((value) => clamp(value));
      drag.box = [Math.min(x0, x), Math.min(y0, y), Math.max(x0, x), Math.max(y0, y)];
    } else if (drag.kind === 'move') {
      const [left, top, right, bottom] = drag.box;
      const x = this.snapSpan(left + at[0] - drag.at[0], right - left, 0, drag.name, free);
      const y = this.snapSpan(top + at[1] - drag.at[1], bottom - top, 1, drag.name, free);
      this.change(drag.name, [x, y, x + right - left, y + bottom - top]);
    } else if (drag.kind === 'resize') {
      const box = [...drag.box];
      const [dx, dy] = [at[0] - drag.at[0], at[1] - drag.at[1]];
      const setSide = (side, value, axis) => {
        const other = box[(side + 2) % 4];
        const wanted = this.snap(clamp(value), axis, drag.name, free);
        box[side] = side < 2 ? Math.min(wanted, other - SMALLEST) : Math.max(wanted, other + SMALLEST);
      };
      if (drag.handle.includes('w')) setSide(0, drag.box[0] + dx, 0);
      if (drag.handle.includes('e')) setSide(2, drag.box[2] + dx, 0);
      if (drag.handle.includes('n')) setSide(1, drag.box[1] + dy, 1);
      if (drag.handle.includes('s')) setSide(3, drag.box[3] + dy, 1);
      this.change(drag.name, box);
    }
    this.draw();
  }

  change(name, box) {
    this.store.scene.instances[name].box = box.map(round);
    this.store.tell('scene-values');
  }

  up(event) {
    const drag = this.drag;
    this.drag = null;
    this.guides = [];
    if (!drag) return;
    if (drag.kind === 'new') {
      const [left, top, right, bottom] = drag.box;
      if (right - left >= SMALLEST && bottom - top >= SMALLEST) this.onadd(drag.box.map(round));
      else this.draw();
    } else if (drag.kind === 'link') {
      const to = this.hit(this.place(event));
      const stayed = drag.to === undefined;
      // A click with the arrow only chooses; from a box to itself it has to leave the box and come back.
      if (to && !(to === drag.from && stayed)) this.link(drag.from, to);
      else this.draw();
    } else {
      this.store.endChange(drag.before);
      this.draw();
    }
  }

  // What is being dragged goes back to where it was.
  cancel() {
    const drag = this.drag;
    if (!drag) return;
    this.drag = null;
    this.guides = [];
    if (drag.name) this.change(drag.name, drag.box);
    else this.draw();
  }

  link(subject, object) {
    this.store.editScene((scene) => scene.interactions.push({ subject, action: '', object }));
    this.onlink(this.store.scene.interactions.length - 1);
  }

  remove(name) {
    this.store.selected = null;
    this.store.editScene((scene) => {
      delete scene.instances[name];
      scene.interactions = scene.interactions.filter((one) => one.subject !== name && one.object !== name);
      for (const reference of scene.references) if (reference.instance === name) delete reference.instance;
    });
  }

  key(event) {
    const name = this.store.selected;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === 'Escape') {
      if (this.drag) this.cancel();
      else this.select(null);
    } else if (name && (event.key === 'Delete' || event.key === 'Backspace')) this.remove(name);
    else if (event.key === 'Enter') this.onadd([0.35, 0.35, 0.65, 0.65]);
    else if (name && moves[event.key]) {
      const by = STEP * (event.shiftKey ? 10 : 1);
      const [dx, dy] = moves[event.key];
      this.store.editScene((scene) => {
        const [left, top, right, bottom] = scene.instances[name].box;
        const x = clamp(left + dx * by, 0, 1 - (right - left));
        const y = clamp(top + dy * by, 0, 1 - (bottom - top));
        scene.instances[name].box = [x, y, x + right - left, y + bottom - top].map(round);
      }, false);
    } else if (event.key === 'b' || event.key === 'a') {
      if (event.ctrlKey || event.metaKey) return;
      this.choose(event.key === 'b' ? 'box' : 'arrow');
      this.store.tell('tool');
    } else return;
    event.preventDefault();
  }

  // Edges and middles of the picture and of the other boxes.
  lines(axis, except) {
    const lines = [0, 0.5, 1];
    for (const [name, { box }] of Object.entries(this.store.scene.instances)) {
      if (name !== except) lines.push(box[axis], (box[axis] + box[axis + 2]) / 2, box[axis + 2]);
    }
    return lines;
  }

  nearest(value, axis, except) {
    const bounds = this.element.getBoundingClientRect();
    const reach = SNAP / (axis ? bounds.height : bounds.width);
    const near = this.lines(axis, except).map((line) => [Math.abs(line - value), line]).sort((a, b) => a[0] - b[0])[0];
    return near && near[0] <= reach ? near : null;
  }

  snap(value, axis, except, free) {
    const near = free ? null : this.nearest(value, axis, except);
    if (!near) return value;
    this.guides.push([axis, near[1]]);
    return near[1];
  }

  // For a span that moves: whichever of its start, middle and end is nearest to a line.
  snapSpan(start, length, axis, except, free) {
    const held = clamp(start, 0, 1 - length);
    if (free) return held;
    const offsets = [0, length / 2, length];
    const best = offsets.map((offset) => [this.nearest(held + offset, axis, except), offset])
      .filter(([near]) => near).sort((a, b) => a[0][0] - b[0][0])[0];
    if (!best) return held;
    this.guides.push([axis, best[0][1]]);
    return clamp(best[0][1] - best[1], 0, 1 - length);
  }

  draw() {
    const scene = this.store.scene;
    if (!scene) return;
    const [w, t] = [WIDTH, this.height];
    const parts = [s('rect', { class: 'paper', width: w, height: t })];
    for (const third of [1, 2]) {
      parts.push(s('path', { class: 'thirds', d: `M${(w * third) / 3} 0V${t}M0 ${(t * third) / 3}H${w}` }));
    }
    parts.push(...drawScene(scene, t, this.store.selected));
    const drag = this.drag;
    if (drag && drag.kind === 'new') parts.push(rectOf(drag.box, t, 'drawing'));
    if (drag && drag.kind === 'link') {
      const { box } = scene.instances[drag.from];
      const to = drag.to || [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
      parts.push(s('path', { class: 'linking', d: `M${((box[0] + box[2]) / 2) * w} ${((box[1] + box[3]) / 2) * t}L${to[0] * w} ${to[1] * t}` }));
    }
    for (const [axis, line] of this.guides) {
      parts.push(s('path', { class: 'guide', d: axis ? `M0 ${line * t}H${w}` : `M${line * w} 0V${t}` }));
    }
    if (this.store.selected && scene.instances[this.store.selected]) parts.push(...this.handles(scene));
    if (!Object.keys(scene.instances).length && !drag) {
      parts.push(s('text', { class: 'hint', x: w / 2, y: t / 2 }, 'Drag here to draw a box'));
    }
    put(this.element, parts);
  }

  handles(scene) {
    const { box } = scene.instances[this.store.selected];
    const at = (fx, fy) => [(box[0] + (box[2] - box[0]) * fx) * WIDTH, (box[1] + (box[3] - box[1]) * fy) * this.height];
    const parts = HANDLES.map(([handle, fx, fy]) => {
      const [x, y] = at(fx, fy);
      return s('rect', { class: 'handle', 'data-handle': handle, x: x - 13, y: y - 13, width: 26, height: 26, rx: 6 });
    });
    // Below the box, beside its middle: labels stand above, and arrows leave from the sides.
    const [x, bottom] = at(0.75, 1);
    const y = bottom + 60 < this.height ? bottom + 44 : bottom - 44;
    parts.push(s('circle', { class: 'handle link', 'data-handle': 'link', cx: x, cy: y, r: 22 },
      s('title', {}, 'Drag to another box: an interaction')));
    parts.push(s('path', { class: 'link-sign', d: `M${x - 8} ${y}h16m-6-6 6 6-6 6` }));
    return parts;
  }
}
