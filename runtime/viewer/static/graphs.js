// The two graphs under the images: bytes of each packet by layer, and the encoder's times.

const COLORS = { base: "#4aa3df", residual: "#e0913c", other: "#6b7683", text: "#75818d", line: "#232a32", cursor: "#e4eaf0", late: "#f4f0e6" };
const MOST_BARS = 600;

export function formatBytes(count) {
  if (count < 1024) return `${count} B`;
  return count < 1048576 ? `${(count / 1024).toFixed(1)} KiB` : `${(count / 1048576).toFixed(1)} MiB`;
}

export function formatTime(microseconds) {
  return microseconds < 1000 ? `${Math.round(microseconds)} µs` : `${(microseconds / 1000).toFixed(2)} ms`;
}

const RATE = {
  parts: [["base_bytes", COLORS.base], ["residual_bytes", COLORS.residual], ["other_bytes", COLORS.other]],
  format: formatBytes,
  mark: () => false,
};
const LATENCY = {
  parts: [["waited_us", COLORS.base], ["coded_us", COLORS.residual]],
  format: formatTime,
  mark: (row) => row.late || row.dropped,
};

export function drawRate(canvas, rows, phase) {
  draw(canvas, rows, phase, RATE);
}

export function drawLatency(canvas, rows, phase) {
  draw(canvas, rows.filter((row) => row.policy >= 0), phase, LATENCY);
}

// The rows that a graph shows: the latest, or those around the phase on show.
function shownRows(rows, phase) {
  if (rows.length <= MOST_BARS) return rows;
  const at = rows.findIndex((row) => row.phase >= phase);
  const end = Math.min(rows.length, Math.max(MOST_BARS, (at < 0 ? rows.length : at) + MOST_BARS / 10));
  return rows.slice(end - MOST_BARS, end);
}

// The phase at a place of a graph, for clicks; undefined where there is none.
export function phaseAt(canvas, rows, phase, x) {
  const shown = shownRows(rows, phase);
  const box = canvas.getBoundingClientRect();
  const row = shown[Math.floor(((x - box.left) / box.width) * shown.length)];
  return row && row.phase;
}

function draw(canvas, rows, phase, kind) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  const shown = shownRows(rows, phase);
  if (!shown.length) return;
  const total = (row) => kind.parts.reduce((sum, [name]) => sum + row[name], 0);
  const most = Math.max(1, ...shown.map(total));
  const [top, bottom] = [16, height - 15];
  const step = width / shown.length;
  pen.strokeStyle = COLORS.line;
  for (const part of [0.5, 1]) {
    const y = Math.round(bottom - part * (bottom - top)) + 0.5;
    pen.beginPath();
    pen.moveTo(0, y);
    pen.lineTo(width, y);
    pen.stroke();
  }
  shown.forEach((row, i) => drawBar(pen, row, i * step, step, bottom, (bottom - top) / most, kind));
  const at = shown.findIndex((row) => row.phase === phase);
  if (at >= 0) {
    pen.strokeStyle = COLORS.cursor;
    pen.strokeRect(at * step + 0.5, top - 2.5, Math.max(1, step - 1), bottom - top + 4);
  }
  pen.fillStyle = COLORS.text;
  pen.fillText(kind.format(most), 2, 11);
  pen.fillText(`phase ${shown[0].phase + 1}`, 2, height - 3);
  pen.textAlign = "right";
  pen.fillText(`${shown[shown.length - 1].phase + 1}`, width - 2, height - 3);
}

function drawBar(pen, row, x, step, bottom, gain, kind) {
  let y = bottom;
  for (const [name, color] of kind.parts) {
    const size = row[name] * gain;
    pen.fillStyle = color;
    pen.fillRect(x, y - size, Math.max(1, step * 0.82), size);
    y -= size;
  }
  if (kind.mark(row)) {
    pen.fillStyle = COLORS.late;
    pen.fillRect(x, y - 4, Math.max(1, step * 0.82), 3);
  }
}

export function quantile(values, part) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}
