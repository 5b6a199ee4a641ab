// Plays the recordings: which of them the three switches choose, and how far it has come.
"use strict";
{
  const { rows, recordings } = JSON.parse(document.getElementById("recordings").textContent);
  const find = (id) => document.getElementById(id);
  const player = find("player"), at = find("at"), stages = [...document.querySelectorAll(".stage")];
  const lanes = ["blocking", "epoll", "uring"];
  const PAUSE_MS = 650;
  const NAMES = ["Accept", "Receive", "Open", "Send", "Finish"];
  const NAMES_OF_MANY = ["Accept", "Four requests", "", "", "Finish"];
  let places = []; // for each step: its stage, and how many rows of each lane are over
  let timer = 0;

  const element = (name, text, ...children) => {
    const made = document.createElement(name);
    made.append(text, ...children);
    return made;
  };

  // `isBeside`: somebody else sleeps meanwhile.
  const item = ([who, kind, name, note, client], before, isMany, isBeside) => {
    const made = document.createElement("li");
    const beside = isBeside && (who === "client" || who === "pool") ? '<use href="#asleep"/>' : "";
    made.className = `${kind} ${who}`;
    made.innerHTML = `<svg viewBox="0 0 104 34" aria-hidden="true">${beside}<use href="#${kind}"/></svg>`;
    const words = document.createElement("span");
    if (isMany && client) words.append(element("i", `${who === "client" ? "client " : "for "}${client} `));
    else if (who !== before && who !== "machine") words.append(element("i", who), " ");
    words.append(kind === "client" ? name : element("code", name));
    words.append({ sleeps: " sleeps", slept: " sleeps", wakes: note ? " wakes:" : " wakes" }[kind] ?? "", note && ` ${note}`);
    made.append(words);
    return made;
  };

  const chosen = () => {
    const choice = new FormData(player);
    return ["file", "reader", "clients"].map((name) => choice.get(name));
  };

  const draw = () => {
    const [, , clients] = chosen();
    const isMany = clients === "many";
    const recording = recordings[chosen().join("-")];
    places = [];
    const sleeping = lanes.map(() => new Set());
    stages.forEach((stage, index) => {
      stage.querySelector("h3").textContent = (isMany ? NAMES_OF_MANY : NAMES)[index];
      let longest = 0;
      lanes.forEach((lane, which) => {
        const list = stage.querySelector(`.${lane}`);
        const own = recording[lane][index].map((number) => rows[number]);
        list.replaceChildren(...own.map((row, nth) => {
          const [who, kind] = row;
          if (kind === "sleeps") sleeping[which].add(who);
          else sleeping[which].delete(who);
          return item(row, nth ? own[nth - 1][0] : "", isMany, sleeping[which].size > 0);
        }));
        longest = Math.max(longest, own.length);
      });
      stage.classList.toggle("empty", longest === 0);
      for (let row = 0; row < longest; row += 1) places.push([index, row]);
    });
    at.max = places.length;
    show(places.length);
  };

  // Everything before a place has happened. A lane that has no row there waits for the others.
  const show = (place) => {
    at.value = place;
    const isWhole = place >= places.length;
    const [stageNow, rowNow] = isWhole ? [stages.length, 0] : places[place];
    const spoken = [];
    lanes.forEach((lane, nth) => {
      let last = null;
      stages.forEach((stage, index) => {
        [...stage.querySelector(`.${lane}`).children].forEach((row, number) => {
          const isNow = index === stageNow && number === rowNow;
          const isLater = index > stageNow || (index === stageNow && number > rowNow);
          row.classList.toggle("now", isNow);
          row.classList.toggle("later", isLater);
          if (!isLater) last = row;
          if (isNow) spoken.push(`${lane}: ${row.textContent}`);
        });
      });
      const small = document.querySelectorAll(".heads small")[nth];
      small.textContent = isWhole || !last ? "" : last.textContent;
    });
    find("count").textContent = isWhole ? `${places.length} steps` : `${place + 1} / ${places.length}`;
    find("spoken").textContent = timer ? "" : spoken.join("; ");
    find("back").disabled = place <= 0;
    find("on").disabled = isWhole;
  };

  const follow = () => {
    const now = document.querySelector(".lane .now");
    const bottom = player.getBoundingClientRect().bottom;
    const box = now?.getBoundingClientRect();
    if (box && (box.top < Math.max(bottom, 0) || box.bottom > innerHeight - 40)) {
      const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      now.scrollIntoView({ block: "center", behavior: isCalm ? "auto" : "smooth" });
    }
  };

  const step = (by) => {
    show(Math.min(places.length, Math.max(0, Number(at.value) + by)));
    follow();
  };

  const stop = () => {
    clearInterval(timer);
    timer = 0;
    find("play").textContent = "Play";
  };

  const play = () => {
    if (timer) return stop();
    if (Number(at.value) >= places.length) show(0);
    find("play").textContent = "Pause";
    timer = setInterval(() => {
      step(1);
      if (Number(at.value) >= places.length) stop();
    }, PAUSE_MS);
    follow();
  };

  player.addEventListener("change", (event) => {
    if (event.target === at) return;
    stop();
    draw();
  });
  player.addEventListener("submit", (event) => event.preventDefault());
  at.addEventListener("input", () => { stop(); show(Number(at.value)); follow(); });
  find("play").addEventListener("click", play);
  find("back").addEventListener("click", () => { stop(); step(-1); });
  find("on").addEventListener("click", () => { stop(); step(1); });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, a, button, select, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
    const keys = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), " ": play };
    if (!keys[event.key]) return;
    if (event.key !== " ") stop();
    event.preventDefault();
    keys[event.key]();
  });
  player.hidden = false;
  const measure = () => player.style.setProperty("--above", `${find("play").parentElement.offsetTop - 8}px`);
  addEventListener("resize", measure);
  measure();
  draw();
}
