// Shows a race: as it happens, from events, or from a file. What shows it is made here, so both pages have the same.
"use strict";
{
  const root = document.getElementById("race");
  const SPAN_S = 120; // of a race that goes on, so much is shown
  const WIDTH = 960, HEIGHT = 300, LEFT = 64, RIGHT = 118, TOP = 14, BOTTOM = 34;
  const OURS = ["blocking", "epoll", "uring"];
  const MEASURES = [
    { head: "Requests a second", digits: 0, of: (row) => row[0] },
    { head: "CPU a request, µs", digits: 1, of: (row) => row[1] },
    { head: "p99, ms", digits: 2, of: (row) => (row[2] === null ? null : row[2] / 1000) },
  ];
  const CHARTS = [
    { title: "Who waits how long", says: "99th percentile of the response times of a small cached file", unit: "ms", of: MEASURES[2].of, floor: 0.1, ceiling: 1 },
    { title: "What a request costs", says: "CPU time of the server for each answer", unit: "µs", of: MEASURES[1].of, floor: 1, ceiling: 100 },
  ];
  let meta = null, samples = [], at = -1, isLive = false, timer = 0, lit = null;

  const make = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const draw = (name, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  };
  const number = (value, digits) => (value === null ? "–" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  const median = (values) => {
    const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
    return sorted.length ? sorted[sorted.length >> 1] : null;
  };

  // ---- what is shown, built once it is known who races

  const status = make("p", { class: "state", role: "status" });
  const keys = make("div", { class: "keys" });
  const table = make("table", { class: "board" });
  const charts = make("div", { class: "charts" });
  root.replaceChildren(status, keys, table, charts);

  const button = (text, act) => {
    const made = make("button", { type: "button" }, text);
    made.addEventListener("click", act);
    keys.append(made);
    return made;
  };

  let play, range, disk, readers;
  const begin = () => {
    keys.replaceChildren();
    if (isLive) {
      const turn = (name) => async (event) => {
        const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
        await fetch(`/${name}/${on ? "on" : "off"}`, { method: "POST", headers: { "X-Race": "1" } });
      };
      disk = button("Slow disk", turn("disk"));
      readers = button("Slow readers", turn("readers"));
      for (const made of [disk, readers]) made.setAttribute("aria-pressed", "false");
      if (meta["without-throttle"]) {
        disk.disabled = true;
        keys.append(make("p", { class: "why" }, `The disk can’t be made slow here: ${meta["without-throttle"]}`));
      }
      button("Save", save);
    } else {
      play = button("Play", toggle);
      range = make("input", { type: "range", min: 0, max: samples.length - 1, value: samples.length - 1, "aria-label": "Time" });
      range.addEventListener("input", () => { stop(); show(Number(range.value)); });
      keys.append(range);
    }
    const body = make("tbody", { role: "rowgroup" });
    meta.racers.forEach((racer, nth) => {
      const name = make("th", { scope: "row", role: "rowheader" }, make("i", { class: look(nth) }), racer.label);
      const cells = MEASURES.map(({ head }) => make("td", { "data-head": head, role: "cell" }, make("span"), make("u", { class: look(nth) })));
      const row = make("tr", { role: "row", tabindex: "0" }, name, ...cells);
      const light = (on) => () => { lit = on ? nth : null; show(at); };
      row.addEventListener("pointerenter", light(true));
      row.addEventListener("pointerleave", light(false));
      row.addEventListener("focus", light(true));
      row.addEventListener("blur", light(false));
      body.append(row);
    });
    const heads = ["Server", ...MEASURES.map(({ head }) => head)].map((head) => make("th", { scope: "col", role: "columnheader" }, head));
    table.setAttribute("role", "table");
    table.replaceChildren(make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)), body);
    charts.replaceChildren(...CHARTS.map(({ title, says, unit }) => make("figure", {},
      make("figcaption", {}, make("b", {}, title), ` ${says}, ${unit}`), draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: the numbers are in the table` }))));
  };

  // A colour for each of the three, a shade and a dash for the others.
  const look = (nth) => {
    const { id } = meta.racers[nth];
    const others = meta.racers.filter((racer) => !OURS.includes(racer.id));
    return OURS.includes(id) ? id : `other other${others.findIndex((racer) => racer.id === id) % 4}`;
  };

  // ---- a moment of it

  const show = (place) => {
    at = place;
    const now = samples[place];
    if (!now) return;
    const parts = [`${now.t.toFixed(0)} s`, `${meta.rate} requests a second for each`];
    if (now.disk) parts.push("the disk is slow");
    if (now.readers) parts.push("others read slowly");
    status.textContent = parts.join(" · ");
    if (isLive) {
      disk.setAttribute("aria-pressed", now.disk);
      readers.setAttribute("aria-pressed", now.readers);
    } else {
      range.value = place;
      range.setAttribute("aria-valuetext", status.textContent);
    }
    // A number for the eye: of the last two seconds.
    const recent = samples.slice(Math.max(0, place - 3), place + 1);
    MEASURES.forEach(({ of, digits }, column) => {
      const values = meta.racers.map((_, nth) => median(recent.map(({ rows }) => of(rows[nth]))));
      const most = Math.max(...values.filter((value) => value !== null), 1e-9);
      values.forEach((value, nth) => {
        const cell = table.tBodies[0].rows[nth].cells[column + 1];
        cell.firstChild.textContent = number(value, digits);
        cell.lastChild.style.width = `${(100 * (value ?? 0)) / most}%`;
      });
    });
    CHARTS.forEach((chart, nth) => plot(charts.children[nth].querySelector("svg"), chart));
  };

  const plot = (svg, { of, floor, ceiling }) => {
    const seen = samples.slice(0, isLive ? undefined : at + 1);
    const end = isLive ? seen.at(-1).t : samples.at(-1).t;
    const start = Math.max(0, isLive ? end - SPAN_S : 0);
    const inside = seen.filter(({ t }) => t >= start);
    const all = samples.flatMap(({ rows }) => rows.map(of)).filter((value) => value !== null);
    const low = Math.log10(floor), high = Math.max(Math.ceil(Math.log10(Math.max(...all, ceiling))), low + 1);
    const x = (t) => LEFT + ((t - start) / Math.max(end - start, 1)) * (WIDTH - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - ((Math.log10(Math.max(value, floor)) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (const [name, label] of [["disk", "slow disk"], ["readers", "slow readers"]]) {
      let from = null;
      inside.forEach((sample, nth) => {
        from = sample[name] ? from ?? sample.t : from;
        if (from !== null && (!sample[name] || nth === inside.length - 1)) {
          parts.push(draw("rect", { x: x(from), y: TOP, width: Math.max(0, x(sample.t) - x(from)), height: HEIGHT - TOP - BOTTOM, class: name }));
          parts.push(draw("text", { x: x(from) + 6, y: TOP + 16, class: "note" }, label));
          from = null;
        }
      });
    }
    for (let power = low; power <= high; power += 1) {
      parts.push(draw("path", { d: `M${LEFT} ${y(10 ** power)}H${WIDTH - RIGHT}`, class: "grid" }));
      parts.push(draw("text", { x: LEFT - 8, y: y(10 ** power) + 5, class: "tick end" }, (10 ** power).toLocaleString("en")));
    }
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
      const t = start + part * (end - start);
      parts.push(draw("text", { x: x(t), y: HEIGHT - 10, class: "tick mid" }, `${t.toFixed(0)} s`));
    }
    const labels = [];
    meta.racers.forEach((racer, nth) => {
      let path = "", isDown = false;
      for (const { t, rows } of inside) {
        const value = of(rows[nth]);
        if (value !== null) path += `${isDown ? "L" : "M"}${x(t).toFixed(1)} ${y(value).toFixed(1)}`;
        isDown = value !== null;
      }
      const fades = lit !== null && lit !== nth ? " fades" : "";
      parts.push(draw("path", { d: path, class: `line ${look(nth)}${fades}` }));
      const last = inside.length ? of(inside.at(-1).rows[nth]) : null;
      if (last !== null) labels.push({ nth, fades, x: x(inside.at(-1).t) + 8, y: y(last) });
    });
    // Names at the lines' ends, moved apart.
    labels.sort((a, b) => a.y - b.y);
    labels.forEach((label, nth) => { if (nth) label.y = Math.max(label.y, labels[nth - 1].y + 15); });
    const over = labels.length ? Math.max(0, labels.at(-1).y - (HEIGHT - BOTTOM)) : 0;
    labels.forEach(({ nth, fades, x, y }) => parts.push(draw("text", { x, y: y - over + 5, class: `name${fades}` }, meta.racers[nth].label)));
    svg.replaceChildren(...parts);
  };

  // ---- forwards

  const stop = () => { clearInterval(timer); timer = 0; if (play) play.textContent = "Play"; };
  const toggle = () => {
    if (timer) return stop();
    if (at >= samples.length - 1) show(0);
    play.textContent = "Pause";
    timer = setInterval(() => { if (at >= samples.length - 1) stop(); else show(at + 1); }, meta["tick-ms"] / 4);
  };
  const save = () => {
    const text = `{"meta":${JSON.stringify(meta)},\n"samples":[\n${samples.map((sample) => JSON.stringify(sample)).join(",\n")}\n]}\n`;
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "race.json" });
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const say = (text) => { status.textContent = text; };

  if (root.dataset.source === "events") {
    isLive = true;
    const events = new EventSource("/events");
    let redraw = 0;
    events.addEventListener("meta", (event) => { meta = JSON.parse(event.data); samples = []; begin(); });
    events.addEventListener("message", (event) => {
      samples.push(JSON.parse(event.data));
      // All that has come at once is drawn at once.
      redraw ||= requestAnimationFrame(() => { redraw = 0; show(samples.length - 1); });
    });
    events.addEventListener("end", () => {
      events.close();
      for (const made of [disk, readers]) if (made) made.disabled = true;
      setTimeout(() => say(`${status.textContent} · the race is over`), 50);
    });
    events.addEventListener("error", () => say("The race has ended, or its program has."));
  } else {
    fetch(root.dataset.source).then((answer) => answer.json()).then((footage) => {
      ({ meta, samples } = footage);
      begin();
      show(samples.length - 1);
    }).catch(() => say("The recorded race can’t be loaded. A page in a file may not: serve this folder."));
  }
}
