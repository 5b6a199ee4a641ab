// For tests: looks at the page as it is drawn, and puts what is wrong with it into the document.
addEventListener('load', () => {
  const found = [];
  const { scrollWidth } = document.documentElement;
  if (scrollWidth > innerWidth) found.push(`wider than the screen: ${scrollWidth}`);
  const inspect = when => document.querySelectorAll('.chart').forEach(chart => {
    const name = `${chart.dataset.title}${when}`;
    const svg = chart.querySelector('.plot svg');
    if (!svg) { found.push(`${name}: not drawn`); return; }
    if (!svg.querySelector('[data-t]')) found.push(`${name}: no server`);
    if (/NaN|Infinity|undefined/.test(svg.outerHTML)) found.push(`${name}: no number`);
    if (chart.querySelectorAll('[tabindex]').length !== 1) found.push(`${name}: not one tab stop`);
    const texts = [...svg.querySelectorAll('text')].map(text => text.textContent);
    const isTold = texts.some(text => text.startsWith('dashed: '));
    if (isTold !== Boolean(svg.querySelector('.floor'))) found.push(`${name}: dashed lines, or what they are`);
    // Panels beside each other have a server at one height.
    const bars = [...svg.querySelectorAll('[data-t]')].filter(mark => mark.querySelector('.part'));
    const heights = new Map();
    if (innerWidth > 1000) bars.forEach(({ dataset: { t }, firstChild }) => {
      const y = firstChild.getAttribute('y');
      if ((heights.get(t) ?? y) !== y) found.push(`${name}: a server at two heights`);
      heights.set(t, y);
    });
    const page = svg.getBoundingClientRect();
    const boxes = [];
    svg.querySelectorAll('text').forEach(text => {
      const { left, right, top, bottom } = text.getBoundingClientRect();
      const across = left < page.left - 1 || right > page.right + 1;
      const down = top < page.top - 3 || bottom > page.bottom + 3;
      if (across || down) found.push(`${name}: ${text.textContent} leaves it`);
      // A glyph is lower than its line.
      const box = { left: left + 1, right: right - 1, top: top + 3, bottom: bottom - 3, says: text.textContent };
      const isSide = other => box.left < other.right && other.left < box.right;
      const isOver = other => isSide(other) && box.top < other.bottom && other.top < box.bottom;
      boxes.filter(isOver).forEach(other => found.push(`${name}: ${box.says} over ${other.says}`));
      boxes.push(box);
    });
  });
  inspect('');
  document.querySelectorAll('body *').forEach(node => {
    if (!node.getClientRects().length || node.closest('.unseen, .heard')) return;
    const isText = [...node.childNodes].some(child => child.nodeType === Node.TEXT_NODE && child.data.trim());
    const size = parseFloat(getComputedStyle(node).fontSize);
    if (isText && size < 11) found.push(`small: ${node.textContent.slice(0, 40)}`);
  });
  // The keyboard lights up one server, and the others fade.
  document.querySelectorAll('.plot').forEach(plot => {
    plot.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown' }));
    const name = plot.getAttribute('aria-label');
    const on = new Set([...plot.querySelectorAll('.on')].map(mark => mark.dataset.t));
    if (on.size !== 1 || !plot.classList.contains('lit')) found.push(`${name}: ${on.size} lit`);
    plot.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }));
    if (plot.classList.contains('lit')) found.push(`${name}: still lit`);
  });
  // All servers at once, and each choice of each menu; then none of a server that is switched off is left.
  document.querySelectorAll('.chart button').forEach(button => button.click());
  inspect(', all servers');
  document.querySelectorAll('.chart select').forEach(select => [...select.options].forEach(option => {
    select.value = option.value;
    select.dispatchEvent(new Event('change'));
    const svg = select.closest('.chart').querySelector('.plot svg');
    const { title } = select.closest('.chart').dataset;
    if (/NaN|undefined/.test(svg.outerHTML)) found.push(`${title} ${option.text}: no number`);
  }));
  const input = document.querySelector('#servers input');
  const first = document.querySelector('#heat [data-t]').dataset.t;
  input.click();
  document.querySelectorAll(`.plot [data-t="${first}"], .legend [data-t="${first}"]`).forEach(ghost =>
    found.push(`a ghost in ${ghost.closest('.chart').dataset.title}`));
  const heat = document.getElementById('heat');
  heat.querySelector('tbody button').click();
  const sorted = [...heat.tBodies[0].rows[0].cells].slice(1).map(cell => Number(cell.dataset.v ?? Infinity));
  if (sorted.some((value, index) => index > 0 && sorted[index - 1] > value)) found.push(`not sorted: ${sorted}`);
  const last = heat.querySelector('thead th:last-child');
  const wide = [...heat.rows].filter(row => row.lastElementChild.hidden !== last.hidden);
  if (wide.length) found.push('a column of the heat map is hidden in part');
  const textContent = [...new Set(found)].join('\n');
  document.body.append(Object.assign(document.createElement('pre'), { id: 'found', textContent }));
});
