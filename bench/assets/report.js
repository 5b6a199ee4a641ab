'use strict';
// The page works without this; with it, every number can be asked for.
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const targets = new Map(data.targets.map(target => [target.id, target]));
  const state = { ratio: false, baseline: data.baseline, hidden: new Set() };

  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === 'class') element.className = value;
      else if (value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };

  // Numbers, as the rest of the page writes them.
  const three = value => value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1)
    : Math.round(value).toLocaleString('en-US');
  const unitOf = (kind, value) => {
    if (kind === 'time') return value < 999500 ? [1e3, 'µs'] : value < 999.5e6 ? [1e6, 'ms'] : [1e9, 's'];
    if (kind === 'size') return value < 1023.5 ? [1, 'B'] : value < 1048064 ? [1024, 'KiB'] : [1048576, 'MiB'];
    return [1, ''];
  };
  const plain = (kind, value) => kind === 'size' && value === Math.round(value) && value < 1024
    ? String(value) : three(value);
  const write = (kind, value) => {
    const [unit, name] = unitOf(kind, value);
    return plain(kind, value / unit) + (name ? '\u00a0' + name : '') + (kind === 'rate' ? '/s' : '');
  };
  const factor = value => value < 0.0995 ? value.toFixed(3) : value < 9.995 ? value.toFixed(2) : three(value);
  const withInterval = (kind, [value, low, high]) => {
    const [unit] = unitOf(kind, value);
    const ends = low === null ? '' : ` [${plain(kind, low / unit)}, ${plain(kind, high / unit)}]`;
    return write(kind, value) + ends;
  };
  const ratioText = ([value, low, high]) =>
    factor(value) + '×' + (low === null ? '' : ` [${factor(low)}, ${factor(high)}]`);

  // [value, low, high, claim, why] of one target against another.
  const ratioOf = (cell, measure, above, below) => {
    const found = (cell.ratios[measure] || []).find(([one, other]) =>
      (one === above && other === below) || (one === below && other === above));
    if (!found) return null;
    const [one, , value, low, high, claim, why] = found;
    if (one === above) return [value, low, high, claim, why];
    return [1 / value, low === null ? null : 1 / high, low === null ? null : 1 / low, claim, why];
  };

  const claims = { difference: 'a difference', alike: 'alike', 'no-verdict': 'no verdict' };

  class Explorer {
    constructor(element) {
      this.cells = data.cells.filter(cell => cell.scenario === element.dataset.scenario);
      this.element = element;
      this.cell = this.cells[this.cells.length - 1];
      this.measure = this.cell.measure;
      this.list = make('ol');
      this.said = make('p', { class: 'said', 'aria-live': 'polite' });
      const choice = make('div', { class: 'choice' });
      if (this.cells.length > 1) {
        choice.append(this.select('at ', this.cells.map(cell => [cell.point, cell.point]), this.cell.point,
          point => { this.cell = this.cells.find(cell => cell.point === point); }));
      }
      const measures = Object.entries(data.measures)
        .filter(([name]) => this.cells.some(cell => Object.values(cell.values).some(values => values[name])));
      choice.append(this.select('measure ', measures.map(([name, { label }]) => [name, label]), this.measure,
        measure => { this.measure = measure; }));
      element.append(choice, this.list, this.said);
      this.draw();
    }

    select(text, options, chosen, then) {
      const select = make('select', {}, ...options.map(([value, label]) => make('option', { value }, label)));
      select.value = chosen;
      select.addEventListener('change', () => { then(select.value); this.draw(); });
      return make('label', {}, text, select);
    }

    draw() {
      const { cell, measure } = this;
      const about = data.measures[measure];
      const band = cell.bands[measure] ?? 0.02;
      const shown = data.targets
        .filter(target => !state.hidden.has(target.id) && cell.values[target.id]?.[measure])
        .map(target => {
          const absolute = cell.values[target.id][measure];
          const ratio = target.id === state.baseline ? [1, null, null, null, null]
            : ratioOf(cell, measure, target.id, state.baseline);
          return { target, absolute, ratio, value: state.ratio ? ratio : absolute };
        })
        .filter(row => row.value)
        .sort((one, other) => (one.value[0] - other.value[0]) * (about.lower ? 1 : -1));
      const numbers = shown.flatMap(({ value }) => value.slice(0, 3)).filter(number => number !== null && number > 0);
      const values = shown.map(({ value }) => value[0]);
      const [least, most] = [Math.min(...values), Math.max(...values)];
      const logarithmic = state.ratio || most / least > 12;
      const low = logarithmic ? Math.max(Math.min(...numbers), least / 3) / 1.1 : 0;
      const high = Math.min(Math.max(...numbers), most * 1.6) * 1.04;
      const place = value => {
        const share = logarithmic ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : value / high;
        return 100 * Math.min(Math.max(share, 0), 1);
      };
      const centre = state.ratio ? 1 : cell.values[state.baseline]?.[measure]?.[0];
      this.list.replaceChildren(...shown.map(row => this.row(row, place, centre, band, about)));
      this.said.textContent = shown.length === 0
        ? 'Nothing to show: not measured here, or hidden.'
        : `${about.label}, ${cell.scenario}${cell.point ? ' at ' + cell.point : ''}, ${cell.rounds} rounds; `
          + `${about.lower ? 'less' : 'more'} is better${logarithmic ? '; logarithmic scale' : ''}. `
          + `Shaded: the A/A band of ±${(band * 100).toFixed(0)} % around ${targets.get(state.baseline)?.label ?? ''}.`;
    }

    row({ target, absolute, ratio, value }, place, centre, band, about) {
      const track = make('span', { class: 'track' });
      const bar = (kind, from, to) => {
        const element = make('span', { class: kind });
        element.style.left = place(from) + '%';
        if (to !== undefined) element.style.width = Math.max(place(to) - place(from), 0) + '%';
        track.append(element);
      };
      if (centre) bar('zone', centre / (1 + band), centre * (1 + band));
      if (state.ratio) bar('one', 1);
      if (value[1] !== null) bar('reach', value[1], value[2]);
      bar('dot', value[0]);
      const text = state.ratio ? factor(value[0]) + '×' : write(about.kind, value[0]);
      const why = this.cell.unranked[target.id]?.[this.measure];
      const parts = [`${target.label}: ${withInterval(about.kind, absolute)}`];
      if (ratio && ratio[3]) {
        parts.push(`${ratioText(ratio)} of ${targets.get(state.baseline).label}: ${claims[ratio[3]]}`
          + (ratio[4] ? ` (${ratio[4]})` : ''));
      }
      if (why) parts.push('not ranked: ' + why);
      const said = parts.join('; ');
      const row = make('li', {
        class: `row ${target.class}${target.main ? ' main' : ''}${target.variant ? ' variant' : ''}`,
        tabindex: '0', 'aria-label': said,
      }, make('span', { class: 'name' }, target.label), track,
        make('span', { class: 'value' }, why ? `(${text})` : text));
      for (const event of ['mouseenter', 'focus', 'click']) {
        row.addEventListener(event, () => { this.said.textContent = said + '.'; });
      }
      return row;
    }
  }

  const explorers = [...document.querySelectorAll('.explorer')].map(element => {
    element.hidden = false;
    return new Explorer(element);
  });
  // Whoever changes what is shown wants to see it.
  const drawAll = () => explorers.forEach(explorer => {
    explorer.element.open = true;
    explorer.draw();
  });

  // One bar of choices for the whole page.
  const controls = document.getElementById('controls');
  const modes = make('fieldset', { 'aria-label': 'absolute numbers or ratios' });
  for (const [ratio, label] of [[false, 'absolute'], [true, 'ratio']]) {
    const input = make('input', { type: 'radio', name: 'mode' });
    input.checked = ratio === state.ratio;
    input.addEventListener('change', () => { state.ratio = ratio; drawAll(); });
    modes.append(make('label', {}, input, label));
  }
  const took = data.targets.filter(target => data.cells.some(cell => cell.values[target.id]));
  const baseline = make('select', {}, ...took.map(target => make('option', { value: target.id }, target.label)));
  baseline.value = state.baseline;
  baseline.addEventListener('change', () => { state.baseline = baseline.value; drawAll(); });
  const fade = () => document.querySelectorAll('figure [data-target]').forEach(mark =>
    mark.classList.toggle('faded', state.hidden.has(mark.dataset.target)));
  const servers = make('div', { class: 'servers' });
  const boxes = took.map(target => {
    const input = make('input', { type: 'checkbox' });
    input.checked = true;
    input.addEventListener('change', () => {
      state.hidden[input.checked ? 'delete' : 'add'](target.id);
      fade();
      drawAll();
    });
    servers.append(make('label', {}, input, target.label));
    return input;
  });
  const all = make('button', { type: 'button' }, 'all or none');
  all.addEventListener('click', () => {
    const on = !boxes.every(box => box.checked);
    boxes.forEach((box, index) => {
      box.checked = on;
      state.hidden[on ? 'delete' : 'add'](took[index].id);
    });
    fade();
    drawAll();
  });
  servers.append(all);
  controls.append(modes, make('label', {}, 'against ', baseline),
    make('details', {}, make('summary', {}, 'servers'), servers));
  controls.hidden = false;

  // What a mark in a picture says, for whoever points at it, taps it or tabs to it.
  const tip = make('div', { id: 'tip', role: 'status' });
  document.body.append(tip);
  const hide = () => { tip.style.display = 'none'; };
  const show = (mark, x, y) => {
    tip.textContent = mark.dataset.tip;
    tip.style.display = 'block';
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 4)) + 'px';
    tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 4)) + 'px';
  };
  document.querySelectorAll('figure .mark').forEach(mark => {
    const title = mark.querySelector('title');
    mark.dataset.tip = title.textContent;
    mark.setAttribute('tabindex', '0');
    mark.setAttribute('aria-label', title.textContent);
    title.remove();
    mark.addEventListener('mousemove', event => show(mark, event.clientX, event.clientY));
    mark.addEventListener('mouseleave', hide);
    mark.addEventListener('click', event => { show(mark, event.clientX, event.clientY); event.stopPropagation(); });
    mark.addEventListener('focus', () => {
      const { left, bottom } = mark.getBoundingClientRect();
      show(mark, left, bottom);
    });
    mark.addEventListener('blur', hide);
  });
  document.addEventListener('click', hide);
  document.addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });

  // The raw trials: a table when it is asked for, and a file.
  const raw = document.getElementById('trials');
  const rows = () => JSON.parse(document.getElementById('raw').textContent);
  raw.addEventListener('toggle', () => {
    if (!raw.open || raw.querySelector('table')) return;
    const { columns, trials } = rows();
    const body = make('tbody', {}, ...trials.map(trial =>
      make('tr', {}, ...trial.map(value => make('td', {}, value === null ? '–' : String(value))))));
    raw.append(make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'all trials' },
      make('table', {}, make('thead', {}, make('tr', {}, ...columns.map(name => make('th', {}, name)))), body)));
  });
  const save = make('button', { type: 'button' }, 'Save the trials as JSON');
  save.addEventListener('click', () => {
    const { columns, trials } = rows();
    const objects = trials.map(trial => Object.fromEntries(trial.map((value, index) => [columns[index], value])));
    const link = make('a', {
      href: URL.createObjectURL(new Blob([JSON.stringify(objects, null, 1)], { type: 'application/json' })),
      download: 'trials.json',
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  raw.before(save);
})();
