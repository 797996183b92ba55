// Voxels to pixels: the window of grays, the map of errors, and what a window may be.

// Gray of a voxel: 0 at `low` and below, 255 at `high` and above, rounded half up between.
export function paintGray(canvas, frame, window) {
  const { image, pixels } = surface(canvas, frame);
  const low = window.center - window.width / 2;
  const gain = 255 / Math.max(window.width, 1e-9);
  for (let i = 0; i < frame.samples.length; i++) {
    const gray = Math.floor((frame.samples[i] + frame.low - low) * gain + 0.5);
    const shown = gray > 0 ? (gray < 255 ? gray : 255) : 0; // NaN is black
    pixels[i] = 0xff000000 | (shown << 16) | (shown << 8) | shown;
  }
  pen(canvas).putImageData(image, 0, 0);
}

// Blue is too low, orange too high, black is no error: told apart by all kinds of color vision.
export const ERROR_MAP = makeErrorMap();

function makeErrorMap() {
  const stops = { [-1]: [[0, 0, 0], [28, 110, 190], [190, 228, 255]], 1: [[0, 0, 0], [214, 120, 20], [255, 230, 180]] };
  const map = new Uint32Array(129); // -64 to 64
  for (let step = -64; step <= 64; step++) {
    const at = (Math.abs(step) / 64) * 2;
    const colors = stops[step < 0 ? -1 : 1];
    const from = Math.min(1, Math.floor(at));
    const mix = (channel) => Math.round(colors[from][channel] + (at - from) * (colors[from + 1][channel] - colors[from][channel]));
    map[step + 64] = 0xff000000 | (mix(2) << 16) | (mix(1) << 8) | mix(0);
  }
  return map;
}

const LEAST_STEP = 3; // the darkest color that is seen not to be black

// Signed error decoded - original; an error that is not 0 is never black. Returns the extremes.
export function paintError(canvas, decoded, original, scale) {
  const { image, pixels } = surface(canvas, decoded);
  const shift = decoded.low - original.low;
  let [least, most] = [0, 0];
  for (let i = 0; i < pixels.length; i++) {
    const error = decoded.samples[i] - original.samples[i] + shift;
    if (error < least) least = error;
    if (error > most) most = error;
    let step = Math.round((error / scale) * 64);
    if (error && Math.abs(step) < LEAST_STEP) step = error < 0 ? -LEAST_STEP : LEAST_STEP;
    pixels[i] = ERROR_MAP[Math.max(-64, Math.min(64, step || 0)) + 64];
  }
  pen(canvas).putImageData(image, 0, 0);
  return [least, most];
}

// The size of error that a part of the voxels stays within.
export function errorQuantile(decoded, original, part) {
  const shift = decoded.low - original.low;
  const sizes = Float64Array.from(decoded.samples, (sample, i) => Math.abs(sample - original.samples[i] + shift));
  return sizes.filter(Number.isFinite).sort()[Math.floor(part * (sizes.length - 1))] || 0;
}

export function paintScale(canvas) {
  const image = new ImageData(129, 1);
  new Uint32Array(image.data.buffer).set(ERROR_MAP);
  pen(canvas).putImageData(image, 0, 0);
}

// The canvases are small and made by the processor: a GPU would only be in the way.
export function pen(canvas) {
  return canvas.getContext("2d", { willReadFrequently: true });
}

function surface(canvas, frame) {
  if (canvas.width !== frame.columns || canvas.height !== frame.rows) {
    canvas.width = frame.columns;
    canvas.height = frame.rows;
  }
  const image = new ImageData(frame.columns, frame.rows);
  return { image, pixels: new Uint32Array(image.data.buffer) }; // little-endian: 0xAABBGGRR
}

// Center and width between two quantiles of a frame, whatever its values are.
export function windowOf(frame, from, to) {
  const step = Math.max(1, Math.floor(frame.samples.length / 65536));
  const some = frame.samples.filter((_, i) => i % step === 0).filter(Number.isFinite).sort();
  if (!some.length) return { center: 0, width: 1 };
  const at = (part) => some[Math.round(part * (some.length - 1))] + frame.low;
  return windowFrom(at(from), at(to));
}

export function windowFrom(low, high) {
  return { center: (low + high) / 2, width: Math.max(high - low, 1e-6) };
}
