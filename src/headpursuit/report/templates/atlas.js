// The entrance of an atlas: layers of the map, and the search. Texts are set as texts, never as markup.
"use strict";
(() => {
  const cells = new Map([...document.querySelectorAll("[data-head]")].map((cell) => [Number(cell.dataset.head), cell]));
  const buttons = [...document.querySelectorAll("[data-view]")];
  const at = (id) => document.getElementById(id);
  const grid = document.querySelector(".grid");
  let view = ATLAS.views[0];

  const written = (value) => {
    if (value === null) return "";
    const text = view.percent ? `${Math.round(100 * value)} %` : String(Number(value.toPrecision(3)));
    return text.replace("-", "−");
  };
  const element = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);
  const entry = (head, beside) => {
    const [name, line] = ATLAS.heads[head];
    const link = element("a", "", { href: `heads/${name}.html` });
    link.append(element("b", name), " ", element("span", line), " ", element("em", beside));
    const item = document.createElement("li");
    item.append(link);
    return item;
  };

  const show = (index) => {
    view = ATLAS.views[index];
    const high = Math.max(view.low, ...view.values.filter((value) => value !== null));
    const outlined = new Set(view.outlined);
    for (const [head, cell] of cells) {
      const shade = high > view.low ? (view.values[head] - view.low) / (high - view.low) : 0;
      cell.style.setProperty("--s", Math.min(1, Math.max(0, shade)).toFixed(3));
      cell.classList.toggle("outlined", outlined.has(head));
    }
    buttons.forEach((button, number) => button.setAttribute("aria-pressed", String(number === index)));
    at("low").textContent = written(view.low);
    at("high").textContent = written(high);
    at("legend").textContent = view.legend;
    at("shown").textContent = view.name;
    const order = [...cells.keys()].filter((head) => view.values[head] > view.low);
    order.sort((one, other) => view.values[other] - view.values[one] || one - other);
    at("best").replaceChildren(...order.slice(0, ATLAS.best).map((head) => entry(head, written(view.values[head]))));
  };

  const search = (asked) => {
    const word = asked.trim().toLowerCase();
    const found = at("found");
    const heads = new Map();
    if (word) {
      // Whole words before words that begin with it, those before words that have it inside.
      const rank = (text) => (text === word ? 0 : text.startsWith(word) ? 1 : 2);
      const lower = ATLAS.tokens.map(([text, of]) => [text.toLowerCase(), text, of]);
      const matches = lower.filter(([text]) => (word.length > 1 ? text.includes(word) : text === word));
      matches.sort((one, other) => rank(one[0]) - rank(other[0]));
      for (const [, text, of] of matches) for (const head of of) heads.set(head, [...(heads.get(head) ?? []), text]);
      ATLAS.heads.forEach(([name], head) => {
        const bare = name.toLowerCase().replace(/[^0-9.]/g, "");
        if ([name.toLowerCase(), bare].includes(word)) heads.set(head, heads.get(head) ?? []);
      });
    }
    found.hidden = !word;
    grid.classList.toggle("searched", heads.size > 0);
    for (const [head, cell] of cells) cell.classList.toggle("match", heads.has(head));
    if (!word) return;
    const many = heads.size === 1 ? "1 head" : `${heads.size} heads`;
    const list = element("ol", "", { className: "heads-list" });
    list.append(...[...heads].slice(0, 24).map(([head, texts]) => entry(head, texts.slice(0, 3).join(", "))));
    const more = heads.size > 24 ? [element("p", `and ${heads.size - 24} more, marked on the map`, { className: "quiet" })] : [];
    found.replaceChildren(element("h2", heads.size ? `${many} for “${asked.trim()}”` : `No head for “${asked.trim()}”`), list, ...more);
  };

  // The address keeps what is looked at, where the browser lets it.
  const keep = () => {
    const query = new URLSearchParams();
    if (view !== ATLAS.views[0]) query.set("view", view.name);
    if (at("q").value.trim()) query.set("q", at("q").value.trim());
    try {
      history.replaceState(null, "", `${location.pathname}${String(query) && `?${query}`}`);
    } catch { /* a browser that forbids it for files */ }
  };

  buttons.forEach((button, index) => button.addEventListener("click", () => { show(index); keep(); }));
  at("q").addEventListener("input", () => { search(at("q").value); keep(); });
  document.querySelector(".search").addEventListener("submit", (event) => { event.preventDefault(); search(at("q").value); keep(); });
  for (const happened of ["mouseover", "focusin"]) {
    grid.addEventListener(happened, (event) => {
      if (!event.target.dataset.head) return;
      const head = Number(event.target.dataset.head);
      const value = written(view.values[head]);
      at("pointed").textContent = `${ATLAS.heads[head][0]}: ${ATLAS.heads[head][1]}${value ? ` (${view.name} ${value})` : ""}`;
    });
  }
  // One stop for the tabulator, arrows inside.
  const order = [...cells.keys()];
  order.forEach((head, index) => { cells.get(head).tabIndex = index ? -1 : 0; });
  grid.addEventListener("keydown", (event) => {
    const wide = Number(getComputedStyle(grid).getPropertyValue("--columns"));
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide }[event.key];
    const next = cells.get(Number(event.target.dataset.head) + step);
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  const asked = new URLSearchParams(location.search);
  const wanted = ATLAS.views.findIndex((one) => one.name === asked.get("view"));
  if (wanted > 0) show(wanted);
  if (asked.get("q")) {
    at("q").value = asked.get("q");
    search(asked.get("q"));
  }
})();
