// The side panel and the graphs: facts of the stream, of the frame, and under the pointer.

import { drawLatency, drawRate, formatBytes, formatTime, quantile } from "./graphs.js";
import { element, short, signed, view } from "./view.js";

function list(id, pairs) {
  element(id).replaceChildren(
    ...pairs.flatMap(([name, value]) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      [term.textContent, text.textContent] = [name, value];
      return [term, text];
    }),
  );
}

export function frameFacts() {
  const row = view.stream.row(view.slice, view.phase);
  const times = view.stream.facts.trigger_time_ms;
  const pairs = [];
  if (!row) pairs.push(["state", "lost"]);
  if (row) {
    const size = row.base_bytes + row.residual_bytes + row.other_bytes;
    const voxels = view.stream.facts.rows * view.stream.facts.columns;
    pairs.push(["kind", row.key ? "key frame" : "builds on the one before"]);
    pairs.push(["packet", `${formatBytes(size)}, ${((8 * size) / voxels).toFixed(2)} bit/voxel`]);
    if (row.policy >= 0) pairs.push(["waited, coded", `${formatTime(row.waited_us)}, ${formatTime(row.coded_us)}`]);
    if (row.fast_bands) pairs.push(["less effort, in time", `${row.fast_bands} bands`]);
    if (row.late) pairs.push(["deadline", "missed"]);
    if (row.dropped) pairs.push(["left out before it", `${row.dropped} frames`]);
    if (row.clock_jumped) pairs.push(["clock", "was set before it"]);
  }
  if (times[view.phase] !== undefined) pairs.push(["trigger time", `${times[view.phase].toFixed(1)} ms`]);
  list("frame-facts", pairs);
}

export function streamFacts() {
  const { facts, state, rows } = view.stream;
  const [slope, intercept] = facts.rescale;
  const spacing = facts.spacing_mm.map((value) => (value ? value.toFixed(2) : "?"));
  const voxels = rows.length * facts.rows * facts.columns;
  list("facts", [
    ["frames", `${facts.slices} slices, ${facts.phases || "open"} phases`],
    ["matrix", `${facts.rows} × ${facts.columns}, ${facts.dtype}`],
    ["spacing", `${spacing[1]} × ${spacing[2]} mm, slices ${spacing[0]} mm`],
    ["values", `${facts.low} to ${facts.high}`],
    ["physical", slope === 1 && intercept === 0 ? "as stored" : `${slope} × stored + ${intercept}`],
    ["promise", facts.promise],
    ["model", facts.model],
    ["effort", facts.effort],
    ["key frames", `every ${facts.key_interval} phases`],
    ["order", facts.archive ? "archive: a hierarchy over the cycle" : "as acquired"],
    ["in the stream", `${rows.length} frames, ${formatBytes(state.file_bytes)}`],
    ["rate", voxels ? `${((8 * state.file_bytes) / voxels).toFixed(2)} bit/voxel` : "—"],
    ["end", state.complete ? "closed" : state.tail_bytes ? `open or cut, ${formatBytes(state.tail_bytes)} after it` : "open or cut"],
  ]);
  element("promise").textContent = facts.promise;
  const lost = lostFrames();
  element("damage-box").hidden = !state.damage.length && !lost;
  element("damage-title").textContent = `Damage: ${lost} frames are lost`;
  element("damage").replaceChildren(
    ...state.damage.map(([offset, what]) => Object.assign(document.createElement("li"), { textContent: `byte ${offset}: ${what}` })),
  );
}

// Frames that the header or the phases after them promise, and that are not there.
function lostFrames() {
  const { facts, state } = view.stream;
  let lost = 0;
  for (let slice = 0; slice < facts.slices; slice++) {
    const there = view.stream.ofSlice(slice).length;
    const open = !state.complete && !state.damage.length;
    const due = open && there ? view.stream.ofSlice(slice)[there - 1].phase + 1 : open ? 0 : view.stream.phases(slice);
    lost += due - there;
  }
  return lost;
}

export function readout() {
  const { decoded, original } = view.shown;
  const at = view.pointer;
  const inside = decoded && at && at.row >= 0 && at.column >= 0 && at.row < decoded.rows && at.column < decoded.columns;
  if (!inside) {
    element("readout").textContent = "row –, column –";
    return;
  }
  const place = at.row * decoded.columns + at.column;
  const value = decoded.samples[place] + decoded.low;
  const lines = [`row ${at.row}, column ${at.column}`, `stored ${value}`];
  const [slope, intercept] = view.stream.facts.rescale;
  if (slope !== 1 || intercept !== 0) lines[1] += ` = ${short(slope * value + intercept)}`;
  if (original && place < original.samples.length) {
    const truth = original.samples[place] + original.low;
    lines.push(`original ${truth}, error ${signed(value - truth)}`);
  }
  element("readout").textContent = lines.join("\n");
}

export function graphs() {
  const rows = view.stream.ofSlice(view.slice);
  const timed = rows.filter((row) => row.policy >= 0);
  element("latency-box").hidden = !timed.length; // before drawing: it changes the other's width
  drawRate(element("rate"), rows, view.phase);
  const sizes = rows.map((row) => row.base_bytes + row.residual_bytes + row.other_bytes);
  element("rate-note").textContent = sizes.length ? `median ${formatBytes(quantile(sizes, 0.5))}` : "";
  if (!timed.length) return;
  drawLatency(element("latency"), rows, view.phase);
  const times = timed.map((row) => row.waited_us + row.coded_us);
  element("latency-note").textContent = `median ${formatTime(quantile(times, 0.5))}, p99 ${formatTime(quantile(times, 0.99))}`;
}
