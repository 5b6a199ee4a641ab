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
  const first = document.querySelector('#heat tbody tr').dataset.t;
  input.click();
  document.querySelectorAll(`.plot [data-t="${first}"], .legend [data-t="${first}"]`).forEach(ghost =>
    found.push(`a ghost in ${ghost.closest('.chart').dataset.title}`));
  document.querySelector('#heat thead button').click();
  const rows = [...document.querySelectorAll('#heat tbody tr')];
  const column = rows.map(row => Number(row.cells[1].dataset.v ?? Infinity));
  if (column.some((value, index) => index > 0 && column[index - 1] > value)) found.push(`not sorted: ${column}`);
  const textContent = [...new Set(found)].join('\n');
  document.body.append(Object.assign(document.createElement('pre'), { id: 'found', textContent }));
});
