'use strict';
// Draws the charts of this page from the numbers that it carries, at the width that there is. Without it, the table
// below each chart has the same numbers.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const { targets } = data;
  const hidden = new Set();
  const charts = [];
  const OURS = ['blocking', 'epoll', 'uring'];

  // Elements.
  const SVG = 'http://www.w3.org/2000/svg';
  const fill = (node, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) if (value !== null) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  const FONT = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif";
  const SIZE = 13;
  const NARROW = 560;
  const pen = document.createElement('canvas').getContext('2d');
  const widthOf = (text, bold) => {
    pen.font = `${bold ? 700 : 400} ${SIZE}px ${FONT}`;
    return pen.measureText(text).width;
  };
  const widest = (texts, bold) => Math.max(0, ...texts.map(text => widthOf(text, bold)));
  const write = (root, x, y, text, kind = '', anchor = 'start') =>
    root.append(svg('text', { x, y, class: kind, 'text-anchor': anchor }, text));
  const line = (root, x1, y1, x2, y2, kind) => root.append(svg('line', { x1, y1, x2, y2, class: kind }));
  const box = (root, x, y, width, height, kind) =>
    root.append(svg('rect', { x, y, width: Math.max(width, 0), height: Math.max(height, 0), class: kind }));
  const path = points => points.map(([x, y], index) => `${index ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');

  // Numbers, as the rest of the page writes them.
  const digits = value => value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1)
    : Math.round(value).toLocaleString('en-US');
  const UNITS = {
    time: value => value < 999.5 ? [1, '\u00a0ns'] : value < 999500 ? [1e3, '\u00a0µs']
      : value < 999.5e6 ? [1e6, '\u00a0ms'] : [1e9, '\u00a0s'],
    size: value => value < 1023.5 ? [1, '\u00a0B'] : value < 1048064 ? [1024, '\u00a0KiB']
      : value < 1073218388 ? [1048576, '\u00a0MiB'] : [1073741824, '\u00a0GiB'],
    rate: () => [1, '/s'], ratio: () => [1, '×'], percent: () => [1, '\u00a0%'], count: () => [1, ''],
  };
  const plain = (unit, value, by) => (unit === 'size' || unit === 'time') && by === 1 ? String(Math.round(value))
    : value > 0 && value < 0.0995 ? value.toPrecision(2) : digits(value);
  const say = (unit, value) => {
    const [by, name] = UNITS[unit](value);
    return plain(unit, value / by, by) + name;
  };
  const tick = (unit, value) => {
    const [by, name] = UNITS[unit](value);
    return value === 0 ? '0' : Number((value / by).toPrecision(3)).toLocaleString('en-US') + name;
  };
  const withEnds = (unit, [, value, low, high]) => {
    const [by] = UNITS[unit](value);
    const end = number => plain(unit, number / by, by);
    return say(unit, value) + (low === null ? '' : ` [${end(low)}, ${end(high)}]`);
  };

  // Scales: dots and lines are about factors, so theirs are logarithmic; bars begin at zero.
  const logarithmic = (low, high, from, to) => ({
    low, high, from, to, log: true,
    at: value => {
      const share = Math.log(Math.max(value, low) / low) / Math.log(high / low);
      return from + (to - from) * Math.min(1, Math.max(0, share));
    },
  });
  const linear = (low, high, from, to) => ({
    low, high, from, to, log: false,
    at: value => from + (to - from) * Math.min(1, Math.max(0, (value - low) / (high - low))),
  });
  const NOISY = 1;
  const LEAST_SPAN = 1.6;
  // Of [target, value, low, high, flag]: what is too noisy has no say in how far a scale reaches.
  const spanOf = (values, from, to) => {
    const sure = values.filter(value => value[4] !== NOISY);
    const numbers = sure.length ? sure.flatMap(([, value, low, high]) => [value, low ?? value, high ?? value])
      : values.map(([, value]) => value);
    let [low, high] = [Math.min(...numbers) / 1.06, Math.max(...numbers) * 1.06];
    const missing = Math.sqrt(Math.max(1, LEAST_SPAN / (high / low)));
    return logarithmic(low / missing, high * missing, from, to);
  };
  const steps = (low, high, count, by) => {
    const rough = (high - low) / by / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(factor => factor * power).find(step => step >= rough * 0.999) * by;
    const found = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high * 1.0001; value += step) found.push(value);
    return found;
  };
  const ticksOf = (scale, unit, count) => {
    const { low, high, log } = scale;
    const by = unit === 'size' ? UNITS.size(high)[0] : 1;
    if (!log) return steps(low, high, count, by);
    const found = [];
    if (unit === 'size') {
      const stride = [1, 2, 4, 5, 10].find(stride => Math.log2(high / low) / stride <= count) ?? 20;
      const first = Math.ceil(Math.log2(low) / stride) * stride;
      for (let power = first; 2 ** power <= high; power += stride) found.push(2 ** power);
    } else {
      const decades = Math.log10(high / low);
      const stride = Math.max(1, Math.ceil(decades / count));
      const factors = decades * 3 <= count ? [1, 2, 5] : decades * 2 <= count ? [1, 3] : [1];
      for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
        if (power % stride === 0) found.push(...factors.map(factor => factor * 10 ** power));
      }
    }
    const inside = found.filter(value => value >= low * 0.9999 && value <= high * 1.0001);
    return inside.length > 2 ? inside : steps(low, high, count, by);
  };

  // Labels along a line, at least `gap` apart and between the ends, each as near to its place as that allows.
  const spread = (wanted, gap, low, high) => {
    const order = wanted.map((_, index) => index).sort((one, other) => wanted[one] - wanted[other]);
    const blocks = [];
    for (const index of order) {
      let block = { members: [index], middle: wanted[index] };
      for (;;) {
        const half = (block.members.length - 1) / 2 * gap;
        block.middle = Math.min(Math.max(block.middle, low + half), Math.max(high - half, low + half));
        const before = blocks[blocks.length - 1];
        if (!before || block.middle - half >= before.middle + (before.members.length + 1) / 2 * gap - 1e-9) break;
        blocks.pop();
        const members = [...before.members, ...block.members];
        block = { members, middle: members.reduce((sum, member) => sum + wanted[member], 0) / members.length };
      }
      blocks.push(block);
    }
    const placed = [];
    for (const { members, middle } of blocks) {
      members.forEach((member, rank) => { placed[member] = middle + (rank - (members.length - 1) / 2) * gap; });
    }
    return placed;
  };

  const target = t => targets[t];
  const isOurs = t => target(t).rank === 2;
  const byRank = (one, other) => target(one.t).rank - target(other.t).rank;
  const mark = (t, ...children) => svg('g', { 'data-t': t, class: target(t).class }, ...children);
  // The same with all of a place, so that one needn't hit a dot.
  const placeOf = (t, x, y, width, height) => mark(t, svg('rect', { x, y, width, height, class: 'hit' }));
  const nameOf = (root, t, x, y, anchor) => write(root, x, y, target(t).name, isOurs(t) ? 'strong' : '', anchor);
  // Numbers below an axis, as many as fit between its ends.
  const numbersBelow = (root, scale, numbers, unit, bottom, from, to) => {
    let free = -Infinity;
    for (const number of numbers) {
      const [x, text] = [scale.at(number), tick(unit, number)];
      const half = widthOf(text) / 2;
      if (x - half < free || x + half > to) continue;
      write(root, Math.max(x, from + half), bottom + 17, text, 'quiet', 'middle');
      free = x + half + 8;
    }
  };
  // Rules across a plot with their numbers at the left; returns where the plot begins.
  const numbersBeside = (root, scale, numbers, unit, right) => {
    const left = widest(numbers.map(number => tick(unit, number))) + 10;
    numbers.forEach(number => {
      line(root, left, scale.at(number), right, scale.at(number), 'rule');
      write(root, left - 6, scale.at(number) + 4.5, tick(unit, number), 'quiet', 'end');
    });
    return left;
  };
  // One shape for each model, so that colour isn't needed to tell them apart.
  const dot = (t, x, y, size = 5) => {
    const kind = `dot${target(t).variant ? ' hollow' : ''}`;
    switch (target(t).shape) {
      case 'epoll': {
        const half = size * 0.9;
        return svg('rect', { x: x - half, y: y - half, width: 2 * half, height: 2 * half, class: kind });
      }
      case 'uring': {
        const reach = size * 1.3;
        const corners = [[x, y - reach], [x + reach, y], [x, y + reach], [x - reach, y]];
        return svg('path', { d: `${path(corners)}z`, class: kind });
      }
      case 'blocking': return svg('circle', { cx: x, cy: y, r: size, class: kind });
      default: return svg('circle', { cx: x, cy: y, r: size * 0.8, class: kind });
    }
  };
  // An interval that goes on beyond the scale ends in an arrow. Without a dot it is what noise leaves: a hatched bar.
  const interval = (root, scale, [, , low, high, flag], y) => {
    if (low === null) return;
    const [from, to] = [scale.at(low), scale.at(high)];
    if (flag === NOISY) {
      box(root, Math.min(from, to), y - 6, Math.abs(to - from), 12, 'noisy');
      return;
    }
    line(root, from, y, to, y, 'reach');
    [[from, low < scale.low, -1], [to, high > scale.high, 1]].forEach(([x, goesOn, way]) => {
      const arrow = [[x - 5 * way, y - 4], [x + 2 * way, y], [x - 5 * way, y + 4]];
      if (goesOn) root.append(svg('path', { d: path(arrow), class: 'reach' }));
      else line(root, x, y - 4, x, y + 4, 'reach');
    });
  };

  class Chart {
    constructor(host, spec) {
      Object.assign(this, { host, spec, all: spec.all, state: { ...spec.start } });
      const title = document.getElementById(host.dataset.title).textContent;
      this.tools = html('div', { class: 'tools' });
      this.plot = html('div', {
        class: 'plot', tabindex: '0', role: 'application', 'aria-roledescription': 'chart',
        'aria-label': `${title} Up and down: servers; left and right: points.`,
      });
      this.legend = html('ul', { class: 'legend' });
      this.heard = html('p', { class: 'heard', 'aria-live': 'polite' });
      host.replaceChildren(this.tools, this.plot, this.legend, this.heard);
      this.plot.addEventListener('pointermove', event => this.point(event));
      this.plot.addEventListener('pointerdown', event => this.point(event));
      this.plot.addEventListener('pointerleave', () => this.light(null));
      this.plot.addEventListener('blur', () => this.light(null));
      this.plot.addEventListener('keydown', event => this.key(event));
      this.legend.addEventListener('pointerover', event => {
        const item = event.target.closest('[data-t]');
        this.light(item && this.spots.filter(spot => spot.t === Number(item.dataset.t)).pop());
      });
      this.legend.addEventListener('pointerleave', () => this.light(null));
      PAINTERS[spec.kind].tools?.(this);
      const extra = new Set(spec.targets.filter(t => !target(t).shown)).size;
      if (extra && !spec.all) {
        this.more = html('button', { type: 'button', 'aria-pressed': 'false' }, `${extra} more servers`);
        this.more.addEventListener('click', () => {
          this.all = !this.all;
          this.more.setAttribute('aria-pressed', String(this.all));
          this.draw();
        });
        this.tools.append(this.more);
      }
    }

    select(label, options, value, then) {
      const select = html('select', {}, ...options.map(([value, text]) => html('option', { value }, text)));
      select.value = value;
      select.addEventListener('change', () => { then(select.value); this.draw(); });
      this.tools.append(html('label', {}, `${label} `, select));
      return select;
    }

    shows(t) { return !hidden.has(t) && (this.all || target(t).shown); }

    draw(width = this.plot.clientWidth) {
      this.width = Math.max(width, 280);
      this.narrow = this.width < NARROW;
      this.spots = [];
      const id = `hatch-${charts.indexOf(this)}`;
      this.root = svg('svg', { 'aria-hidden': 'true' }, svg('defs', {}, svg('pattern', {
        id, width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)',
      }, svg('rect', { width: 2, height: 6, class: 'stripe' }))));
      this.root.style.setProperty('--hatch', `url(#${id})`);
      this.legend.replaceChildren();
      const height = Math.max(PAINTERS[this.spec.kind].draw(this), 30);
      if (!this.spots.length) write(this.root, 0, 20, 'Nothing to show: not measured here, or switched off.', 'quiet');
      fill(this.root, { width: this.width, height, viewBox: `0 0 ${this.width} ${height}` }, []);
      this.plot.replaceChildren(this.root);
      this.light(null);
    }

    // What a place in the chart says.
    spot(t, x, y, says) { this.spots.push({ t, x, y, says }); }

    light(spot) {
      this.lit = spot ?? null;
      this.plot.classList.toggle('lit', Boolean(spot));
      for (const item of this.host.querySelectorAll('[data-t]')) {
        item.classList.toggle('on', Boolean(spot) && Number(item.dataset.t) === spot.t);
      }
      tip.hidden = !spot;
      if (!spot) return;
      tip.textContent = spot.says;
      const { left, top } = this.root.getBoundingClientRect();
      const place = (at, size, end) => Math.max(4, at + 14 + size > end ? at - size - 10 : at + 14);
      const [width, height] = [tip.offsetWidth, tip.offsetHeight];
      tip.style.left = `${Math.min(place(left + spot.x, width, innerWidth), innerWidth - width - 4)}px`;
      tip.style.top = `${place(top + spot.y, height, innerHeight)}px`;
    }

    point(event) {
      const { left, top } = this.root.getBoundingClientRect();
      const [x, y] = [event.clientX - left, event.clientY - top];
      const on = event.target.closest('[data-t]');
      const far = spot => Math.hypot(spot.x - x, spot.y - y);
      const near = this.spots.filter(spot => on ? spot.t === Number(on.dataset.t) : far(spot) < 30);
      const nearest = near.reduce((best, spot) => !best || far(spot) < far(best) ? spot : best, null);
      if (nearest !== this.lit) this.light(nearest);
    }

    key(event) {
      const down = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const right = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (event.key === 'Escape') this.light(null);
      if (!down && !right || !this.spots.length) return;
      event.preventDefault();
      const order = [...new Set(this.spots.map(spot => spot.t))];
      const mine = t => this.spots.filter(spot => spot.t === t);
      if (!this.lit) this.light(mine(order[0])[0]);
      else if (down) {
        const next = order[(order.indexOf(this.lit.t) + down + order.length) % order.length];
        const at = mine(this.lit.t).indexOf(this.lit);
        this.light(mine(next)[Math.min(at, mine(next).length - 1)]);
      } else {
        const own = mine(this.lit.t);
        this.light(own[(own.indexOf(this.lit) + right + own.length) % own.length]);
      }
      this.heard.textContent = this.lit.says;
    }
  }

  // The null servers' share.
  const FLOOR = 'dashed: kernel and mechanism alone';
  // A row for each server: name, dot with interval, number; groups below each other share the scale.
  const rowsOf = (chart, groups, { unit, axis }) => {
    const { root, width, narrow } = chart;
    const rows = groups.flatMap(group => group.rows);
    if (!rows.length) return 0;
    const textOf = ([, value, , , flag]) =>
      flag === NOISY ? 'too noisy' : flag ? `(${say(unit, value)})` : say(unit, value);
    const left = narrow ? 8 : widest(rows.map(([t]) => target(t).name), true) + 18;
    const right = width - (narrow ? 10 : widest(rows.map(textOf), true) + 18);
    const step = narrow ? 42 : 26;
    const spans = groups.flatMap(({ one }) => one ? [[0, one, one, one, 0]] : []);
    const scale = spanOf([...rows, ...spans], left, right);
    const numbers = ticksOf(scale, unit, narrow ? 4 : 7);
    let y = 0;
    for (const { label, band, note, one, floors = [], rows } of groups) {
      if (label) write(root, 0, y += 22, label, 'strong');
      y += 18 * [note, floors.length].filter(Boolean).length;
      const [top, bottom] = [y + 6, y + 6 + step * rows.length];
      numbers.forEach(number => line(root, scale.at(number), top, scale.at(number), bottom, 'rule'));
      if (band) {
        const [from, to] = [scale.at(band[0]), scale.at(band[1])];
        box(root, from, top, Math.max(to - from, 1), bottom - top, 'band');
        const begin = Math.max(0, Math.min(from, width - widthOf(note)));
        write(root, begin, top - 5 - (floors.length ? 18 : 0), note, 'quiet');
      }
      if (floors.length) {
        const places = floors.map(floor => scale.at(floor));
        places.forEach(x => line(root, x, top - 3, x, bottom, 'floor'));
        const begin = Math.max(0, Math.min(...places, width - widthOf(FLOOR)));
        write(root, begin, top - 5, FLOOR, 'quiet');
      }
      if (one) line(root, scale.at(one), top, scale.at(one), bottom, 'axis');
      rows.forEach((value, index) => {
        const [t, number, , , flag] = value;
        const middle = top + step * index + (narrow ? 30 : 13);
        const base = narrow ? middle - 13 : middle + 4.5;
        const group = placeOf(t, 0, top + step * index, width, step);
        nameOf(group, t, narrow ? left - 8 : left - 18, base, narrow ? 'start' : 'end');
        interval(group, scale, value, middle);
        if (flag !== NOISY) group.append(dot(t, scale.at(number), middle));
        write(group, width - 2, base, textOf(value), flag ? 'quiet' : isOurs(t) ? 'strong' : '', 'end');
        root.append(group);
        chart.spot(t, scale.at(number), middle, value.says);
      });
      line(root, left, bottom, right, bottom, 'axis');
      numbersBelow(root, scale, numbers, unit, bottom, 0, width);
      y = bottom + 20;
    }
    const middle = Math.max((left + right) / 2, widthOf(axis) / 2);
    write(root, middle, y += 17, axis, 'quiet', 'middle');
    return y + 6;
  };

  // Lines over two axes, named at their ends; on a phone, below. Points: [x, value, low, high, flag, says].
  const linesOf = (chart, series, { unit, axis, x: across, values = true }) => {
    const { root, width, narrow } = chart;
    if (!series.length) return 0;
    const labels = series.map(({ t, points }) => {
      const [, value, , , flag] = points[points.length - 1];
      const number = !values || unit === null ? '' : flag === NOISY ? 'too noisy' : say(unit, value);
      return [target(t).name, number];
    });
    const numbersWidth = widest(labels.map(([, number]) => number), true);
    const namesWidth = widest(labels.map(([name]) => name), true) + (numbersWidth ? 12 : 0);
    const right = width - (narrow ? 10 : namesWidth + numbersWidth + 24);
    const height = narrow ? 300 : Math.max(360, 18 * (series.length + 1));
    const [top, bottom] = [26, 26 + height];
    const all = series.flatMap(({ points }) => points);
    const y = spanOf(all, bottom, top);
    const numbers = ticksOf(y, unit, 7);
    const left = numbersBeside(root, y, numbers, unit, right);
    write(root, 0, 13, axis, 'quiet');
    const ends = across.ends ?? across.ticks.map(([x]) => x);
    const least = Math.min(...ends.filter(x => x > 0));
    // Zero has no logarithm: it stands half a decade left of the least.
    const zero = least / Math.sqrt(10);
    const [low, high] = [Math.min(...ends), Math.max(...ends)];
    const x = across.log ? logarithmic(low > 0 ? low : zero, high, left + 8, right - 4)
      : linear(low, high > low ? high : low + 1, left + 8, right - 4);
    const place = value => x.at(across.log && value <= 0 ? zero : value);
    line(root, left, bottom, right, bottom, 'axis');
    let free = Infinity;
    for (const [value, text] of [...across.ticks].reverse()) {
      const half = widthOf(text) / 2;
      line(root, place(value), bottom, place(value), bottom + 5, 'axis');
      const middle = Math.min(place(value), width - half);
      if (middle + half > free || middle - half < 0) continue;
      write(root, middle, bottom + 19, text, 'quiet', 'middle');
      free = middle - half - 8;
    }
    write(root, (left + right) / 2, bottom + 38, across.name, 'quiet', 'middle');
    // Where most are too noisy, the place is hatched; whom that concerns is seen by pointing at the server.
    for (const [value] of across.ticks) {
      const there = all.filter(([at]) => at === value);
      const noisy = there.filter(point => point[4] === NOISY);
      if (noisy.length * 2 > there.length) box(root, place(value) - 7, top, 14, height, 'gap');
    }
    const order = series.map((_, index) => index).sort((one, other) => last(series[one])[1] - last(series[other])[1]);
    const places = spread(series.map(one => y.at(last(one)[1])), 18, top, bottom);
    series.forEach(({ t, points }, index) => {
      const group = mark(t);
      const sure = points.filter(point => point[4] !== NOISY);
      points.forEach(([at, value, low, high, flag, says]) => {
        const [px, py] = [place(at), y.at(value)];
        if (low !== null) line(group, px, y.at(low), px, y.at(high), flag === NOISY ? 'reach noise' : 'reach');
        chart.spot(t, px, py, says);
      });
      // A line joins neighbours that are known; where one is too noisy, there is a gap.
      const runs = [[]];
      points.forEach(point => point[4] === NOISY ? runs.push([]) : runs[runs.length - 1].push(point));
      for (const run of runs.map(run => run.filter(([, , low]) => low !== null)).filter(run => run.length > 1)) {
        const high = run.map(([at, , , high]) => [place(at), y.at(high)]);
        const low = run.map(([at, , low]) => [place(at), y.at(low)]).reverse();
        group.append(svg('path', { class: 'range', d: `${path([...high, ...low])}z` }));
      }
      const d = runs.map(run => path(run.map(([at, value]) => [place(at), y.at(value)]))).join('');
      if (d) group.append(svg('path', { d, class: 'touch' }), svg('path', { d, class: 'line' }));
      const size = isOurs(t) ? 4.5 : 3.5;
      if (points.length < 12) group.append(...sure.map(([at, value]) => dot(t, place(at), y.at(value), size)));
      if (!narrow) {
        const [at, value] = last({ points });
        const leader = [[place(at) + 6, y.at(value)], [right + 14, places[index]], [right + 18, places[index]]];
        group.append(svg('path', { d: path(leader), class: 'leader' }));
        const [name, number] = labels[index];
        write(group, right + 21, places[index] + 4.5, name, isOurs(t) ? 'strong' : '');
        if (number) write(group, width - 1, places[index] + 4.5, number, isOurs(t) ? 'strong' : 'quiet', 'end');
      }
      root.append(group);
    });
    if (narrow) {
      chart.legend.append(...[...order].reverse().map(index => legendItem(series[index].t, labels[index][1])));
    }
    // For the keyboard: from the top down.
    const ranks = new Map(order.map((index, rank) => [series[index].t, rank]));
    chart.spots.sort((one, other) => ranks.get(other.t) - ranks.get(one.t));
    return bottom + 44;
  };
  const last = ({ points }) => points[points.length - 1];
  const legendItem = (t, text) => html('li', { 'data-t': t, class: target(t).class },
    svg('svg', { width: 26, height: 14, 'aria-hidden': 'true' },
      svg('path', { d: 'M0 7H26', class: 'line' }), dot(t, 13, 7, 4)),
    html('span', {}, target(t).name), html('b', {}, text));

  const PAINTERS = {};

  // A scenario: along its axis, or at one of its points; in its own measure or another; absolute, or as a ratio.
  const CLAIMS = { difference: 'a difference', alike: 'alike', 'no-verdict': "can't be told apart" };
  PAINTERS.measured = {
    tools(chart) {
      const { spec, state } = chart;
      const { cells } = spec;
      const known = Object.entries(data.measures).filter(([name]) => cells.some(cell => cell.values[name]));
      if (known.length > 1) {
        const options = known.map(([name, { label }]) => [name, label]);
        chart.select('measure', options, state.measure, name => { state.measure = name; });
      }
      if (cells.length > 1) {
        const points = cells.map(({ label }, index) => [String(index), `at ${label}`]);
        chart.select('where', [['axis', 'along the axis'], ...points], state.at, at => { state.at = at; });
      }
      const bases = OURS.filter(id => cells.some(cell => cell.ratios[state.measure]?.[id]));
      if (bases.length) {
        state.as = '';
        const options = [['', 'absolute numbers'], ...bases.map(id => [id, `ratio to ${id}`])];
        chart.as = chart.select('as', options, '', id => { state.as = id; });
      }
    },
    draw(chart) {
      const { spec, state } = chart;
      const { label, unit: own, better } = data.measures[state.measure];
      const hasRatios = spec.cells.some(cell => cell.ratios[state.measure]?.[state.as || 'epoll']);
      if (chart.as) chart.as.disabled = !hasRatios;
      const isRatio = Boolean(state.as) && hasRatios;
      const unit = isRatio ? 'ratio' : own;
      const axis = `${label}${isRatio ? ` ÷ that of ${state.as}` : ''}, logarithmic; ${better} is better`;
      const valuesOf = cell => {
        const values = (isRatio ? cell.ratios[state.measure]?.[state.as] : cell.values[state.measure]) ?? [];
        return values.filter(([t]) => chart.shows(t)).map(value => {
          const [t, , , , flag, claim] = value;
          const notes = [typeof flag === 'string' && `not ranked: ${flag}`, claim && CLAIMS[claim]].filter(Boolean);
          const number = flag === NOISY ? 'too noisy here' : withEnds(unit, value);
          const at = spec.cells.length > 1 ? ` at ${cell.label} (${spec.axis})` : '';
          return Object.assign([...value], { says: `${target(t).name}${at}: ${[number, ...notes].join('; ')}` });
        });
      };
      if (state.at === 'axis') {
        const found = new Map();
        spec.cells.forEach(cell => valuesOf(cell).forEach(value => {
          const [t, number, low, high, flag] = value;
          if (!found.has(t)) found.set(t, []);
          found.get(t).push([cell.x, number, low, high, flag, value.says]);
        }));
        const series = [...found].map(([t, points]) => ({ t, points })).sort(byRank);
        const ticks = spec.cells.map(cell => [cell.x, cell.label]);
        return linesOf(chart, series, { unit, axis, x: { name: spec.axis, ticks, log: spec.log } });
      }
      const cell = spec.cells[Number(state.at)];
      const sign = better === 'less' ? 1 : -1;
      const isNoisy = value => value[4] === NOISY;
      const rows = valuesOf(cell).sort((one, other) => isNoisy(one) - isNoisy(other) || sign * (one[1] - other[1]));
      const plain = isRatio ? [] : cell.values[state.measure] ?? [];
      const ownBase = plain.find(value => target(value[0]).id === cell.base && !isNoisy(value))?.[1];
      const base = isRatio ? 1 : ownBase;
      const margin = cell.bands[state.measure];
      const floors = plain.filter(([t]) => target(t).shape === 'null').map(value => value[1]);
      const band = base && margin ? [base / (1 + margin), base * (1 + margin)] : null;
      const note = `two copies of ${isRatio ? 'one server' : cell.base} may differ by this`;
      const one = isRatio ? 1 : null;
      const group = { band, note: band && note, one, floors: better === 'less' ? floors : [], rows };
      return rowsOf(chart, [group], { unit, axis });
    },
  };

  PAINTERS.rows = {
    draw(chart) {
      const { unit, axis, groups } = chart.spec;
      const told = row => Object.assign([...row], { says: row[5] });
      const rowsIn = ({ rows }) => rows.filter(([t]) => chart.shows(t)).map(told);
      const shown = groups.map(group => ({ ...group, rows: rowsIn(group) })).filter(({ rows }) => rows.length);
      return rowsOf(chart, shown, { unit, axis });
    },
  };

  PAINTERS.lines = {
    tools(chart) {
      const { spec, state } = chart;
      state.view = '0';
      if (spec.views.length > 1) {
        const options = spec.views.map(({ label }, index) => [String(index), label]);
        chart.select('of', options, '0', view => { state.view = view; });
      }
    },
    draw(chart) {
      const { spec, state } = chart;
      const { axis, unit, series } = spec.views[Number(state.view)];
      const shown = series.filter(({ t }) => chart.shows(t)).sort(byRank);
      return linesOf(chart, shown, { unit, axis, x: spec.x, values: spec.values });
    },
  };

  // Bars of parts, one panel beside the other, with the servers in one order.
  PAINTERS.bars = {
    draw(chart) {
      const { spec, narrow, width } = chart;
      const columns = narrow ? 1 : spec.panels.length;
      const gap = 28;
      const each = (width - gap * (columns - 1)) / columns;
      let [y, bottom] = [0, 0];
      const linesIn = ({ parts }) => partsIn(parts, each).pop().line;
      const most = Math.max(...spec.panels.map(linesIn));
      spec.panels.forEach((panel, index) => {
        if (narrow) y = bottom;
        const lines = narrow ? linesIn(panel) : most;
        bottom = Math.max(bottom, barsOf(chart, panel, index % columns * (each + gap), each, y, lines));
      });
      return bottom;
    },
  };
  // The names of parts in lines of a width.
  const partsIn = (parts, width) => {
    let [x, line] = [0, 0];
    return parts.map(([kind, text]) => {
      const room = 19 + widthOf(text) + 14;
      if (x > 0 && x + room > width) [x, line] = [0, line + 1];
      x += room;
      return { kind, text, x: x - room, line };
    });
  };
  // `lines`: of the parts' names, so that the panels beside each other have their servers at one height.
  const barsOf = (chart, { label, unit, parts, rows }, from, width, y, lines) => {
    const { root, narrow } = chart;
    const shown = rows.filter(({ t }) => chart.shows(t));
    if (!shown.length) return y;
    write(root, from, y += 18, label, 'strong');
    y += 20;
    for (const { kind, text, x, line } of partsIn(parts, width)) {
      box(root, from + x, y + line * 19 - 10, 12, 12, `part ${kind}`);
      write(root, from + x + 17, y + line * 19, text, 'quiet');
    }
    y += lines * 19;
    const left = from + (narrow ? 0 : widest(shown.map(({ t }) => target(t).name), true) + 10);
    const right = from + width - (narrow ? 2 : widest(shown.map(({ text }) => text), true) + 12);
    const sum = ({ values }) => values.reduce((sum, value) => sum + value, 0);
    const scale = linear(0, Math.max(...shown.map(sum)) * 1.001, left, right);
    const step = narrow ? 40 : 26;
    const top = y + 10;
    const numbers = ticksOf(scale, unit, narrow ? 4 : 3);
    const bottom = top + step * shown.length;
    numbers.forEach(number => line(root, scale.at(number), top, scale.at(number), bottom, 'rule'));
    shown.forEach((row, index) => {
      const { t, values, text, says } = row;
      const bar = top + step * index + (narrow ? 20 : 5);
      const base = narrow ? bar - 5 : bar + 12.5;
      const group = placeOf(t, from, top + step * index, width, step);
      nameOf(group, t, narrow ? from : left - 10, base, narrow ? 'start' : 'end');
      let begun = 0;
      values.forEach((value, part) => {
        const [begin, end] = [scale.at(begun), scale.at(begun + value)];
        if (value > 0) box(group, begin, bar, Math.max(end - begin, 0.6), 16, `part ${parts[part][0]}`);
        begun += value;
      });
      write(group, narrow ? from + width : scale.at(begun) + 8, base, text, 'strong', narrow ? 'end' : 'start');
      root.append(group);
      chart.spot(t, scale.at(begun), bar + 8, says);
    });
    line(root, left, bottom, right, bottom, 'axis');
    numbersBelow(root, scale, numbers, unit, bottom, from, from + width);
    return bottom + 26;
  };

  // Over time: a panel for each server, all with the same axes.
  PAINTERS.time = {
    draw(chart) {
      const { root, spec, width, narrow } = chart;
      const shown = spec.rows.filter(({ t }) => chart.shows(t));
      const columns = width < 460 ? 1 : width < 800 ? 2 : 3;
      const [gap, height, head] = [18, narrow ? 90 : 120, 26];
      const axis = 44;
      const each = (width - axis - gap * (columns - 1) - 6) / columns;
      const most = Math.max(spec.most, ...spec.offered);
      write(root, 0, 13, spec.axis, 'quiet');
      shown.forEach(({ t, values, note, says }, index) => {
        const [column, row] = [index % columns, Math.floor(index / columns)];
        const left = axis + column * (each + gap);
        const top = 24 + row * (height + head + 22) + head;
        const x = linear(0, spec.seconds, left, left + each);
        const y = linear(0, most, top + height, top);
        const group = placeOf(t, left, top - head, each, height + head);
        nameOf(group, t, left, top - 8);
        if (note) write(group, left + each, top - 8, note, 'quiet', 'end');
        group.classList.add('panel');
        [0, 50, 100, 150].filter(number => number <= most).forEach(number => {
          line(group, left, y.at(number), left + each, y.at(number), number ? 'rule' : 'axis');
          if (column === 0) write(root, axis - 6, y.at(number) + 4.5, `${number}\u00a0%`, 'quiet', 'end');
        });
        const step = (number, slice) => [slice, slice + 1].map(end => [x.at(end * spec.slice), y.at(number)]);
        const ends = [[x.at(spec.seconds), y.at(0)], [left, y.at(0)]];
        const closed = numbers => `${path([...numbers.flatMap(step), ...ends])}z`;
        group.append(svg('path', { d: closed(spec.offered), class: 'offered' }),
          svg('path', { d: closed(values), class: 'range' }),
          svg('path', { d: path(values.flatMap(step)), class: 'line' }));
        root.append(group);
        spec.phases.forEach(([at, text], phase) => {
          line(root, x.at(at), top + height, x.at(at), top + height + 4, 'axis');
          const anchor = phase === 0 ? 'start' : phase === spec.phases.length - 1 ? 'end' : 'middle';
          write(root, x.at(at), top + height + 17, text, 'quiet', anchor);
        });
        chart.spot(t, left + each / 2, top + height / 2, says);
      });
      const rows = Math.ceil(shown.length / columns);
      return 24 + rows * (height + head + 22) + 12;
    },
  };

  // Two measures against each other. Names stand where there is room, nearest first, with a line where they are far.
  PAINTERS.scatter = {
    draw(chart) {
      const { root, spec, width, narrow } = chart;
      const dots = spec.dots.filter(({ t }) => chart.shows(t)).sort((one, other) => byRank(other, one));
      if (!dots.length) return 0;
      const [top, height] = [26, narrow ? 400 : 460];
      const bottom = top + height;
      const wide = (values, from, to, room) => {
        const { low, high } = spanOf(values, from, to);
        return logarithmic(low / room, high * room, from, to);
      };
      const y = wide(dots.map(dot => dot.y), bottom, top, 1.7);
      const numbers = ticksOf(y, spec.y.unit, 8);
      const right = width - 6;
      const left = numbersBeside(root, y, numbers, spec.y.unit, right);
      const x = wide(dots.map(dot => dot.x), left, right, 1.25);
      write(root, 0, 13, spec.y.axis, 'quiet');
      line(root, left, bottom, right, bottom, 'axis');
      const across = ticksOf(x, spec.x.unit, narrow ? 4 : 8);
      across.forEach(number => line(root, x.at(number), bottom, x.at(number), bottom + 5, 'axis'));
      numbersBelow(root, x, across, spec.x.unit, bottom, 0, width);
      write(root, (left + right) / 2, bottom + 38, spec.x.axis, 'quiet', 'middle');
      const centres = dots.map(dot => [x.at(dot.x[1]), y.at(dot.y[1])]);
      const taken = centres.map(([cx, cy], index) => ({ x: cx - 12, y: cy - 8, width: 24, height: 16, index }));
      const isLeft = (one, other) => one.x + one.width <= other.x || other.x + other.width <= one.x;
      const isAbove = (one, other) => one.y + one.height <= other.y || other.y + other.height <= one.y;
      const apart = (one, other) => isLeft(one, other) || isAbove(one, other);
      dots.forEach((entry, index) => {
        const { t, says } = entry;
        const [cx, cy] = centres[index];
        const group = mark(t);
        const noisy = entry.x[4] === NOISY || entry.y[4] === NOISY;
        if (entry.x[2] !== null) line(group, x.at(entry.x[2]), cy, x.at(entry.x[3]), cy, 'reach faint');
        if (entry.y[2] !== null) line(group, cx, y.at(entry.y[2]), cx, y.at(entry.y[3]), 'reach faint');
        if (!noisy) group.append(dot(t, cx, cy, 6));
        else group.append(svg('circle', { cx, cy, r: 6, class: 'noisy' }));
        const name = `${target(t).name}${noisy ? ' (too noisy)' : ''}`;
        const size = { width: widthOf(name, isOurs(t)) + 4, height: 16 };
        const beside = [[11, -8], [-11 - size.width, -8], [-size.width / 2, -25], [-size.width / 2, 9]];
        for (let reach = 1; reach < 9; reach += 1) {
          for (const dy of [-8 - reach * 16, -8 + reach * 16]) {
            beside.push(...[16, -16 - size.width, -size.width / 2].map(dx => [dx, dy]));
          }
        }
        const free = beside.map(([dx, dy]) => ({ x: cx + dx, y: cy + dy, ...size }))
          .find(area => area.x > left && area.x + area.width < right && area.y > top && area.y + area.height < bottom
            && taken.every(other => other.index === index || apart(area, other)));
        if (free) {
          taken.push(free);
          const end = Math.min(Math.max(cx, free.x), free.x + free.width);
          if (Math.abs(free.y + 8 - cy) > 20) line(group, cx, cy, end, free.y + 8, 'leader');
          write(group, free.x + 2, free.y + 12.5, name, isOurs(t) ? 'strong' : '');
        }
        root.append(group);
        chart.spot(t, cx, cy, says);
      });
      return bottom + 44;
    },
  };

  // Every trial in the order of the run, against the median of its server in its comparison.
  PAINTERS.trials = {
    draw(chart) {
      const { root, spec, width, narrow } = chart;
      const [left, right, top, bottom] = [48, width - 6, 26, narrow ? 286 : 346];
      const { reach, columns: { t, ratio, reason } } = spec;
      const y = logarithmic(1 / reach, reach, bottom, top);
      const x = linear(0, Math.max(t.length - 1, 1), left + 4, right - 4);
      write(root, 0, 13, spec.axis, 'quiet');
      [1 / 1.5, 0.8, 0.9, 1, 1.1, 1.25, 1.5].forEach(number => {
        line(root, left, y.at(number), right, y.at(number), number === 1 ? 'axis' : 'rule');
        write(root, left - 6, y.at(number) + 4.5, `${number.toFixed(2)}×`, 'quiet', 'end');
      });
      spec.begins.forEach(([begin, name], index) => {
        const end = spec.begins[index + 1]?.[0] ?? t.length;
        line(root, x.at(begin), top, x.at(begin), bottom + 5, 'rule');
        const [from, to] = [x.at(begin), x.at(end)];
        if (widthOf(name) < to - from - 6) write(root, (from + to) / 2, bottom + 18, name, 'quiet', 'middle');
      });
      const dots = new Map();
      let crosses = '';
      t.forEach((one, index) => {
        if (!chart.shows(one) || ratio[index] === null) return;
        const [px, py] = [x.at(index), y.at(ratio[index])];
        const why = reason[index];
        if (why >= 0) crosses += `M${px - 3.5} ${py - 3.5}l7 7m-7 0l7 -7`;
        else dots.set(one, `${dots.get(one) ?? ''}M${px.toFixed(1)} ${py.toFixed(1)}h0`);
        const scenario = spec.begins.filter(([begin]) => begin <= index).pop()[1];
        const isVoid = why >= 0 ? `; void: ${spec.reasons[why]}` : '';
        const where = `${target(one).name}, trial ${index + 1}, ${scenario}`;
        chart.spot(one, px, py, `${where}: ${digits(ratio[index])}× its median${isVoid}`);
      });
      const paths = [...dots].map(([t, d]) => ({ t, d })).sort(byRank);
      root.append(...paths.map(({ t, d }) => mark(t, svg('path', { d, class: 'points' }))));
      if (crosses) root.append(svg('path', { d: crosses, class: 'void' }));
      write(root, (left + right) / 2, bottom + 38, 'trial, in the order of the run', 'quiet', 'middle');
      return bottom + 44;
    },
  };

  // The page: charts, the heat map, who is shown.
  const tip = html('div', { id: 'tip', 'aria-hidden': 'true' });
  tip.hidden = true;
  document.body.append(tip);
  document.querySelectorAll('.chart').forEach((host, index) => {
    charts.push(new Chart(host, data.charts[index]));
    charts[index].draw();
  });
  const widths = new Map();
  const watch = new ResizeObserver(entries => entries.forEach(({ target: plot, contentRect: { width } }) => {
    if (widths.get(plot) === width) return;
    widths.set(plot, width);
    charts.find(chart => chart.plot === plot).draw();
  }));
  charts.forEach(chart => { widths.set(chart.plot, chart.plot.clientWidth); watch.observe(chart.plot); });
  const PAPER = 680;
  addEventListener('beforeprint', () => charts.forEach(chart => chart.draw(PAPER)));
  addEventListener('afterprint', () => charts.forEach(chart => chart.draw()));
  addEventListener('scroll', () => { tip.hidden = true; }, { passive: true });

  const heat = document.getElementById('heat');
  if (heat) {
    const grid = [...heat.rows].map(row => [...row.cells]);
    const columns = grid[0].map((_, column) => column).slice(1);
    const serverOf = column => Number(grid[0][column].dataset.t);
    const heads = grid.slice(1).map(([head]) => head);
    heads.forEach((head, index) => {
      const button = html('button', { type: 'button' }, ...head.childNodes);
      head.replaceChildren(button);
      button.addEventListener('click', () => {
        const once = head.getAttribute('aria-sort') !== 'ascending';
        heads.forEach(other => other.setAttribute('aria-sort', 'none'));
        head.setAttribute('aria-sort', once ? 'ascending' : 'none');
        const value = column => Number(grid[index + 1][column].dataset.v ?? Infinity);
        const order = once ? [...columns].sort((one, other) => value(one) - value(other)) : columns;
        [...heat.rows].forEach((row, at) => row.append(...order.map(column => grid[at][column])));
      });
    });
    const more = html('button', { type: 'button', 'aria-pressed': 'false' });
    const extra = columns.filter(column => !target(serverOf(column)).shown);
    let all = false;
    const show = () => columns.forEach(column => {
      const t = serverOf(column);
      grid.forEach(row => { row[column].hidden = hidden.has(t) || !all && !target(t).shown; });
    });
    more.textContent = `${extra.length} more servers`;
    more.addEventListener('click', () => { all = !all; more.setAttribute('aria-pressed', String(all)); show(); });
    const tools = document.getElementById('heat-tools');
    if (extra.length) tools.append(more);
    tools.append(html('span', { class: 'muted' }, 'A question sorts the servers by its answer.'));
    heat.addEventListener('servers', show);
    show();
  }

  const servers = document.getElementById('servers');
  targets.forEach((one, t) => {
    if (!one.took) return;
    const input = html('input', { type: 'checkbox' });
    input.checked = true;
    input.addEventListener('change', () => {
      hidden[input.checked ? 'delete' : 'add'](t);
      heat?.dispatchEvent(new Event('servers'));
      charts.forEach(chart => chart.draw());
    });
    servers.append(html('label', {}, input, one.name));
  });
  servers.parentElement.hidden = false;

  // The contents: open beside the page, folded on a phone, with a mark where the reader is.
  const contents = document.getElementById('contents');
  const menu = contents.querySelector('details');
  const beside = matchMedia('(min-width: 1000px)');
  const fold = () => { menu.open = beside.matches; };
  beside.addEventListener('change', fold);
  fold();
  const links = new Map([...contents.querySelectorAll('a')].map(link => [link.getAttribute('href').slice(1), link]));
  contents.addEventListener('click', event => { if (event.target.closest('a') && !beside.matches) menu.open = false; });
  const here = new IntersectionObserver(entries => entries.filter(entry => entry.isIntersecting).forEach(entry => {
    links.forEach(link => link.removeAttribute('aria-current'));
    links.get(entry.target.id)?.setAttribute('aria-current', 'true');
  }), { rootMargin: '0px 0px -75% 0px' });
  links.forEach((_, id) => { const section = document.getElementById(id); if (section) here.observe(section); });
})();
