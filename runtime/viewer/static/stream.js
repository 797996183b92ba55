// What the server knows of a stream, and its frames: kept here within bounds.

const CACHE_BYTES = 256 * 2 ** 20;
const FIELDS_OF_PLACE = 2 ** 32;

export class ServerError extends Error {}

async function ask(path) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store" });
  } catch {
    throw new ServerError("The viewer's server does not answer. Was `edge-codec view` ended?");
  }
  if (answer.ok) return answer;
  const kind = answer.headers.get("Content-Type") || "";
  const said = kind.startsWith("application/json") ? (await answer.json()).error : answer.statusText;
  throw new ServerError(said);
}

// Bytes of `pack_frame` in packed_frame.py -> {rows, columns, low, samples}.
export function parseFrame(buffer) {
  const head = new DataView(buffer);
  const [form, rows, columns] = [head.getUint8(4), head.getUint32(8, true), head.getUint32(12, true)];
  const Samples = [Uint16Array, Uint32Array, Float32Array][form];
  if (head.getUint32(0) !== 0x45435646 || !Samples) throw new ServerError("The server sent no frame.");
  const samples = new Samples(buffer, 24, rows * columns);
  return { rows, columns, low: Number(head.getBigInt64(16, true)), samples, bytes: buffer.byteLength };
}

export class Stream {
  // `stillWanted(stream, slice, phase, progress)` is told how far a frame is that takes long.
  constructor(number, stillWanted) {
    this.number = number;
    this.stillWanted = stillWanted;
    this.facts = null;
    this.state = null;
    this.rows = [];
    this.bySlice = new Map(); // slice -> rows in the order of their phases
    this.byPlace = new Map();
    this.lastGrowth = -Infinity;
    this.caughtUp = false; // whether all that was there at first has come
    this.followed = false; // whether its newest frames are shown as they come
    this.cache = new Map(); // least recently used first
    this.cached = 0;
    this.waiting = new Map();
  }

  // Ask what is new; true if frames have come.
  async poll() {
    const answer = await ask(`api/state?stream=${this.number}&since=${this.rows.length}`);
    const state = await answer.json();
    if (!state.facts) return { streams: state.streams, grown: false };
    this.state = state;
    this.facts = state.facts;
    for (const values of state.rows) {
      const row = Object.fromEntries(state.fields.map((name, i) => [name, Number(values[i])]));
      this.rows.push(row);
      if (!this.bySlice.has(row.slice)) this.bySlice.set(row.slice, []);
      this.bySlice.get(row.slice).push(row);
      this.byPlace.set(row.slice * FIELDS_OF_PLACE + row.phase, row);
    }
    if (this.facts.archive) {
      for (const rows of this.bySlice.values()) rows.sort((one, other) => one.phase - other.phase);
    }
    const grown = state.rows.length > 0;
    if (grown) this.lastGrowth = performance.now();
    return { streams: state.streams, grown, more: this.rows.length < state.frames };
  }

  row(slice, phase) {
    return this.byPlace.get(slice * FIELDS_OF_PLACE + phase);
  }

  ofSlice(slice) {
    return this.bySlice.get(slice) || [];
  }

  // Phases of a slice: what the header says, or what has come so far.
  phases(slice) {
    const rows = this.ofSlice(slice);
    return Math.max(this.facts.phases, rows.length ? rows[rows.length - 1].phase + 1 : 0);
  }

  has(slice, phase, what) {
    return this.cache.get(`${what}/${slice}/${phase}`);
  }

  // A frame from the cache or the server; asked for once, however many wait for it.
  frame(slice, phase, what) {
    const key = `${what}/${slice}/${phase}`;
    const found = this.cache.get(key);
    if (found) {
      this.cache.delete(key);
      this.cache.set(key, found);
      return Promise.resolve(found);
    }
    if (!this.waiting.has(key)) {
      const asked = this.load(key, slice, phase, what).finally(() => this.waiting.delete(key));
      this.waiting.set(key, asked);
    }
    return this.waiting.get(key);
  }

  async load(key, slice, phase, what) {
    const path = `api/frame?stream=${this.number}&slice=${slice}&phase=${phase}&what=${what}`;
    let answer = await ask(path);
    while (answer.status === 202) {
      const progress = await answer.json();
      if (!this.stillWanted(this, slice, phase, progress)) throw new ServerError("This frame was left.");
      answer = await ask(path);
    }
    const frame = parseFrame(await answer.arrayBuffer());
    this.cache.set(key, frame);
    this.cached += frame.bytes;
    for (const [old, value] of this.cache) {
      if (this.cached <= CACHE_BYTES || old === key) break;
      this.cache.delete(old);
      this.cached -= value.bytes;
    }
    return frame;
  }
}
