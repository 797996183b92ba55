// The page: what is shown, how it is steered, and what is asked of the server.

import { phaseAt } from "./graphs.js";
import { steer, zoomBy } from "./mouse.js";
import { frameFacts, graphs, readout, streamFacts } from "./panel.js";
import { errorQuantile, paintError, paintGray, paintScale, pen, windowFrom, windowOf } from "./picture.js";
import { Stream } from "./stream.js";
import { element, originalKind, panes, phases, short, signed, view } from "./view.js";

const AHEAD = 8; // phases to ask for before they are due
const POLL_MS = 400;
const POLL_IDLE_MS = 3000;
const LIVE_MS = 3000; // a stream that has grown within this is live
const PRESETS = {
  auto: ["Auto 1–99 %", (frame) => windowOf(frame, 0.01, 0.99)],
  wide: ["Frame 0–100 %", (frame) => windowOf(frame, 0, 1)],
  dark: ["Dark 0–90 %", (frame) => windowOf(frame, 0, 0.9)],
  bright: ["Bright 50–100 %", (frame) => windowOf(frame, 0.5, 1)],
  stream: ["Whole stream", (_, facts) => windowFrom(facts.low, facts.high)],
};
const SCALES = ["auto", 1, 2, 5, 10, 20, 50, 100, 200, 500];

// ---- what is on show

let turn = 0;

// Draw the frame that is chosen; resolves when it is on the canvas, or was overtaken.
async function show() {
  const { stream, slice, phase, layer } = view;
  const mine = ++turn;
  updateControls();
  if (!stream || !stream.facts) return;
  const kinds = { decoded: stream.row(slice, phase) ? layer : null, original: originalKind() };
  if (kinds.original === "whole" && !kinds.decoded) kinds.original = null;
  const ask = (kind) => (kind ? stream.frame(slice, phase, kind) : Promise.resolve(null));
  const answers = await Promise.allSettled([ask(kinds.decoded), ask(kinds.original)]);
  if (mine !== turn || stream !== view.stream) return;
  const [decoded, original] = answers.map((answer) => answer.value || null);
  const failed = answers.find((answer) => answer.status === "rejected");
  say(failed ? failed.reason.message : "");
  view.shown = { decoded, original };
  paint();
  document.body.dataset.drawn = `${stream.number}/${slice}/${phase}/${layer}`;
  readAhead();
}

// Say how far a frame is that builds on many others; whether it is still to be shown.
function stillWanted(stream, slice, phase, { decoded, frames }) {
  if (stream !== view.stream || slice !== view.slice || phase !== view.phase) return false;
  say(`This frame builds on many others: ${decoded} of ${frames} are decoded.`);
  return true;
}

function paint() {
  const { decoded, original } = view.shown;
  const model = decoded || original;
  if (model && !view.window) applyPreset(model);
  blank("decoded", decoded ? "" : "this frame is lost");
  blank("original", original ? "" : originalKind() ? "no original of this frame" : "start with --original FILE to compare");
  blank("error", decoded && original ? "" : "nothing to compare");
  if (decoded) paintGray(panes.decoded.canvas, decoded, view.window);
  if (original) paintGray(panes.original.canvas, original, view.window);
  const same = decoded && original && decoded.rows === original.rows && decoded.columns === original.columns;
  if (same) paintDifference(decoded, original);
  notes();
  frameFacts();
  readout();
  graphs();
}

function paintDifference(decoded, original) {
  if (!view.autoScale) view.autoScale = Math.max(1, Math.ceil(errorQuantile(decoded, original, 0.995)));
  const scale = errorScale();
  view.extremes = paintError(panes.error.canvas, decoded, original, scale);
  element("scale-low").textContent = signed(-scale);
  element("scale-high").textContent = signed(scale);
}

// Error that is drawn brightest; larger ones look the same.
function errorScale() {
  const chosen = element("error-scale").value;
  if (chosen !== "auto") return Number(chosen);
  const { max_error } = view.stream.facts;
  return view.layer === "whole" && max_error ? max_error : view.autoScale;
}

function blank(name, reason) {
  const { pane, stage, canvas } = panes[name];
  stage.dataset.reason = reason;
  pane.classList.toggle("lost", reason.includes("lost"));
  pane.classList.toggle("absent", Boolean(reason) && !reason.includes("lost"));
  if (reason) pen(canvas).clearRect(0, 0, canvas.width, canvas.height);
}

function notes() {
  const { facts, state } = view.stream;
  const window = view.window || { center: 0, width: 0 };
  const whole = facts.has_base && facts.has_residual ? "base + residual" : facts.has_base ? "base" : "residual";
  panes.decoded.note.textContent = `${view.layer === "base" ? "base only" : whole} · C ${short(window.center)} W ${short(window.width)}`;
  panes.original.note.textContent = state.compared ? "from the file" : facts.lossless ? "as the lossless stream decodes" : "";
  const [least, most] = view.extremes || [0, 0];
  panes.error.note.textContent = !view.shown.original || !view.shown.decoded ? "" : least || most ? `${signed(least)} to ${signed(most)}` : "zero everywhere";
}

// ---- controls

function updateControls() {
  const { stream } = view;
  if (!stream || !stream.facts) return;
  const slices = stream.facts.slices;
  setSlider("slice", view.slice, slices, `${view.slice + 1} / ${slices}`);
  setSlider("phase", view.phase, phases(), `${view.phase + 1} / ${phases()}`);
  element("speed-text").textContent = `${element("speed").value} /s`;
  element("play").textContent = view.playing ? "Pause" : "Play";
  element("layers").disabled = !(stream.facts.has_base && stream.facts.has_residual);
  element("whole-name").textContent = stream.facts.has_base ? (stream.facts.has_residual ? "base + residual" : "base") : "residual";
  document.querySelector(`input[name=layer][value=${view.layer}]`).checked = true;
}

function setSlider(id, value, count, text) {
  const input = element(id);
  input.max = Math.max(0, count - 1);
  input.value = value;
  element(`${id}-text`).textContent = text;
}

function applyPreset(frame) {
  view.window = PRESETS[view.preset][1](frame, view.stream.facts);
  element("preset").value = view.preset;
  windowInputs();
}

function windowInputs() {
  element("center").value = short(view.window.center);
  element("width").value = short(view.window.width);
}

function setWindow(center, width) {
  view.window = { center, width: Math.max(width, 1e-6) };
  windowInputs();
  paint();
}

function choosePreset(name) {
  view.preset = name;
  const frame = view.shown.decoded || view.shown.original;
  if (!frame) return;
  applyPreset(frame);
  paint();
}

function go(slice, phase) {
  const slices = view.stream ? view.stream.facts.slices : 1;
  view.slice = Math.max(0, Math.min(slices - 1, slice));
  view.phase = Math.max(0, Math.min(phases() - 1, phase));
  return show();
}

function chooseLayer(layer) {
  const { has_base, has_residual } = view.stream.facts;
  view.layer = has_base && has_residual ? layer : "whole";
  view.autoScale = 0;
  return show();
}

function next(list_, now) {
  return list_[(list_.indexOf(now) + 1) % list_.length];
}

function cycle(id) {
  const select = element(id);
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
}

function say(message) {
  element("message").hidden = !message;
  element("message").textContent = message;
}

// ---- playing

let due = 0;

async function play() {
  while (view.playing) {
    await go(view.slice, (view.phase + 1) % Math.max(1, phases()));
    due = Math.max(due + 1000 / Number(element("speed").value), performance.now() - 100);
    await new Promise((resume) => setTimeout(resume, Math.max(0, due - performance.now())));
  }
}

function toggle() {
  view.playing = !view.playing;
  updateControls();
  if (!view.playing) return;
  setFollow(false);
  due = performance.now();
  play();
}

function readAhead() {
  if (!view.playing) return;
  for (let step = 1; step <= AHEAD; step++) {
    const phase = (view.phase + step) % phases();
    if (!view.stream.row(view.slice, phase)) continue;
    for (const kind of new Set([view.layer, originalKind()])) {
      if (kind) view.stream.frame(view.slice, phase, kind).catch(() => {}); // said when it is due
    }
  }
}

function setFollow(on) {
  view.follow = on;
  element("follow").checked = on;
}

// ---- streams

async function choose(number) {
  Object.assign(view, { stream: new Stream(number, stillWanted), slice: 0, phase: 0, layer: "whole", window: null, preset: "auto", autoScale: 0, shown: {} });
  delete document.body.dataset.drawn;
  await update();
}

// Ask what is new and show it; returns in how many ms to ask again.
async function update() {
  const { stream } = view;
  const first = !stream.facts;
  const { streams, grown, more } = await stream.poll();
  nameStreams(streams);
  if (stream !== view.stream) return 0;
  if (!stream.facts) {
    say("No stream is here yet. It will be shown as soon as there is one.");
    return POLL_MS;
  }
  liveBadge();
  streamFacts();
  const newest = stream.rows[stream.rows.length - 1];
  const follow = stream.caughtUp && view.follow && !view.playing;
  if (first && !stream.followed) await go(0, 0);
  else if (grown && newest && (follow || first)) {
    stream.followed = true;
    await go(newest.slice, newest.phase);
  } else if (grown) {
    updateControls();
    graphs();
  }
  if (more) return 0;
  stream.caughtUp = true;
  if (!stream.state.complete) return POLL_MS;
  if (!stream.followed) return POLL_IDLE_MS;
  if (follow && streams.length - 1 > stream.number) await goOn(streams.length - 1);
  return POLL_MS;
}

// The stream that was followed has ended, and there is a newer one.
async function goOn(number) {
  element("stream").value = number;
  Object.assign(view, { stream: new Stream(number, stillWanted), slice: 0, phase: 0, autoScale: 0, shown: {} });
  view.stream.followed = true;
  await update();
}

function liveBadge() {
  const { state, caughtUp, lastGrowth } = view.stream;
  const live = caughtUp && performance.now() - lastGrowth < LIVE_MS;
  element("live").hidden = state.complete;
  element("live").textContent = live ? "live" : "open";
  element("live").classList.toggle("idle", !live);
  element("follow-label").hidden = state.complete && !view.stream.followed;
}

function nameStreams(names) {
  const select = element("stream");
  if (select.options.length === names.length) return;
  select.replaceChildren(...names.map((name, number) => new Option(name, number)));
  select.value = view.stream.number;
}

async function watch() {
  for (;;) {
    let pause = POLL_IDLE_MS;
    try {
      pause = await update();
    } catch (error) {
      say(error.message);
    }
    await new Promise((resume) => setTimeout(resume, pause));
  }
}

// ---- wiring

const KEYS = {
  " ": toggle,
  ArrowLeft: () => step(0, -1),
  ArrowRight: () => step(0, 1),
  ArrowUp: () => step(1, 0),
  ArrowDown: () => step(-1, 0),
  Home: () => go(view.slice, 0),
  End: () => go(view.slice, phases() - 1),
  b: () => chooseLayer(view.layer === "base" ? "whole" : "base"),
  w: () => choosePreset(next(Object.keys(PRESETS), view.preset)),
  e: () => cycle("error-scale"),
  f: () => setFollow(!view.follow),
  s: save,
  "+": () => zoomBy(1.25),
  "-": () => zoomBy(0.8),
  0: () => zoomBy(0),
};

function step(slices, steps) {
  setFollow(false);
  const count = Math.max(1, phases());
  return go(view.slice + slices, (view.phase + steps + count) % count);
}

function save() {
  const link = document.createElement("a");
  link.download = `slice${view.slice + 1}-phase${view.phase + 1}-${view.layer}.png`;
  link.href = panes.decoded.canvas.toDataURL("image/png");
  link.click();
}

function wire() {
  element("preset").replaceChildren(...Object.entries(PRESETS).map(([name, [title]]) => new Option(title, name)));
  element("error-scale").replaceChildren(...SCALES.map((scale) => new Option(scale === "auto" ? "auto" : `± ${scale}`, scale)));
  const on = (id, kind, action) => element(id).addEventListener(kind, action);
  on("stream", "change", (event) => choose(Number(event.target.value)).catch((error) => say(error.message)));
  on("play", "click", toggle);
  on("phase", "input", (event) => (setFollow(false), go(view.slice, Number(event.target.value))));
  on("slice", "input", (event) => (setFollow(false), go(Number(event.target.value), view.phase)));
  on("speed", "input", updateControls);
  on("layers", "change", (event) => chooseLayer(event.target.value));
  on("preset", "change", (event) => choosePreset(event.target.value));
  on("error-scale", "change", () => view.stream.facts && paint());
  for (const id of ["center", "width"]) {
    on(id, "change", () => setWindow(Number(element("center").value), Number(element("width").value)));
  }
  on("follow", "change", (event) => setFollow(event.target.checked));
  on("reset", "click", () => zoomBy(0));
  on("save", "click", save);
  for (const id of ["rate", "latency"]) {
    on(id, "click", (event) => {
      const rows = view.stream.ofSlice(view.slice).filter((row) => id === "rate" || row.policy >= 0);
      const phase = phaseAt(event.target, rows, view.phase, event.clientX);
      if (phase !== undefined) go(view.slice, phase);
    });
  }
  Object.values(panes).forEach((pane) => steer(pane, setWindow));
  window.addEventListener("resize", () => view.stream.facts && graphs());
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=number], select");
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || typing || event.ctrlKey || event.altKey || event.metaKey || !view.stream.facts) return;
    event.preventDefault();
    action();
  });
  paintScale(element("scale"));
}

view.stream = new Stream(0, stillWanted);
wire();
watch();
