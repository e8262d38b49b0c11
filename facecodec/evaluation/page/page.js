
"use strict";
// What a reader can do with a page that is complete without it: choose series, read points, move sliders.
document.documentElement.classList.add("live");

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const named = (name) => all("[data-name]").filter((element) => element.dataset.name === name);

// Keys: a click shows or hides a series in every chart, pointing at one lights it up.
for (const key of all(".key")) {
  key.addEventListener("click", () => {
    const shown = key.getAttribute("aria-pressed") === "false";
    for (const element of named(key.dataset.name)) {
      if (element.matches(".key")) element.setAttribute("aria-pressed", shown);
      else element.classList.toggle("off", !shown);
    }
  });
  const light = (on) => {
    document.body.classList.toggle("dim", on);
    for (const element of named(key.dataset.name)) element.classList.toggle("lit", on);
  };
  key.addEventListener("pointerenter", (event) => light(event.pointerType === "mouse"));
  key.addEventListener("pointerleave", () => light(false));
}

// Line charts: the point of every shown line that is nearest to the pointer, or to where the arrow keys went.
const REACH = 0.12; // of the width: a line that ends further away has no nearest point

function make(name, attributes = {}, text = "") {
  const drawn = ["g", "line", "circle"].includes(name);
  const element = drawn
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

for (const chart of all(".chart")) {
  const { axes, lines } = JSON.parse(chart.querySelector("script").textContent);
  const drawing = chart.querySelector("svg");
  for (const line of lines) {
    line.group = all("g.series", drawing).find((group) => group.dataset.name === line.name);
    line.look = line.group.getAttribute("class").replace("series", "").trim();
  }
  const marks = drawing.appendChild(make("g", { "aria-hidden": "true" }));
  const readout = chart.appendChild(make("output", { class: "readout", "aria-live": "polite", hidden: "" }));
  const shown = () => lines.filter((line) => !line.group.classList.contains("off"));
  let reached = null; // the line and the point that the arrow keys have reached

  const hide = () => {
    readout.hidden = true;
    marks.replaceChildren();
  };

  // Places in % of the chart; distances in pixels.
  const show = (left, top) => {
    const { width, height } = chart.getBoundingClientRect();
    const across = (point) => (Math.abs(point[0] - left) * width) / 100;
    const away = (point) => Math.hypot(across(point), ((point[1] - top) * height) / 100);
    const nearest = (points, distance) => points.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    const rows = shown()
      .map((line) => ({ line, point: nearest(line.points, across) }))
      .filter(({ point }) => across(point) <= REACH * width);
    if (!rows.length) return hide();
    const first = nearest(rows.map((row) => row.point), away);
    rows.sort((a, b) => a.point[1] - b.point[1]);

    marks.replaceChildren(
      make("line", { class: "guide", x1: `${first[0]}%`, x2: `${first[0]}%`, y1: 0, y2: "100%" }),
      ...rows.map(({ line, point }) =>
        make("circle", { class: `ring ${line.look}`, cx: `${point[0]}%`, cy: `${point[1]}%`, r: point === first ? 6 : 4 }),
      ),
    );
    const interval = rows.some((row) => row.point.length > 4);
    const head = make("tr");
    head.append(make("th"), ...axes.map((title) => make("th", { scope: "col" }, title)));
    if (interval) head.append(make("th", { scope: "col" }, "interval"));
    const body = make("tbody");
    for (const { line, point } of rows) {
      const row = body.appendChild(make("tr", { class: `${line.look}${point === first ? " nearest" : ""}` }));
      row.append(make("th", { scope: "row" }, line.name), ...point.slice(2).map((text) => make("td", {}, text)));
    }
    const table = make("table");
    table.appendChild(make("thead")).append(head);
    table.append(body);
    readout.replaceChildren(table);
    readout.hidden = false;
    readout.classList.remove("above");
    readout.classList.toggle("above", readout.getBoundingClientRect().bottom > window.innerHeight);
  };

  const follow = (event) => {
    const { left, top, width, height } = chart.getBoundingClientRect();
    reached = null;
    show((100 * (event.clientX - left)) / width, (100 * (event.clientY - top)) / height);
  };
  chart.addEventListener("pointermove", follow);
  chart.addEventListener("pointerdown", follow);
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("blur", hide);

  const reach = (line, index) => {
    const points = lines[line].points;
    reached = { line, index: Math.max(0, Math.min(index, points.length - 1)) };
    show(...points[reached.index]);
  };
  chart.addEventListener("focus", () => {
    if (chart.matches(":focus-visible") && shown().length) reach(lines.indexOf(shown()[0]), 0);
  });
  chart.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const present = shown();
    if (!step || !present.length) return;
    event.preventDefault();
    const place = reached ? present.indexOf(lines[reached.line]) : 0;
    const line = present[(place + step[0] + present.length) % present.length];
    const here = reached && lines[reached.line].points[reached.index];
    if (!here) return reach(lines.indexOf(line), 0);
    if (step[1]) return reach(reached.line, reached.index + step[1]);
    const beside = line.points.reduce((a, b) => (Math.abs(b[0] - here[0]) < Math.abs(a[0] - here[0]) ? b : a));
    reach(lines.indexOf(line), line.points.indexOf(beside));
  });
}

// Sliders: one picture at a time beside the original.
for (const slider of all(".slider")) {
  const frames = all(".frame", slider);
  const input = slider.querySelector("input");
  if (!frames.length) continue;
  const choose = () => {
    const chosen = frames[input.value];
    for (const frame of frames) frame.classList.toggle("shown", frame === chosen);
    slider.querySelector("output").textContent = chosen.dataset.size;
    input.setAttribute("aria-valuetext", chosen.dataset.size);
  };
  slider.classList.add("live");
  slider.querySelector(".control").hidden = false;
  input.addEventListener("input", choose);
  choose();
}
