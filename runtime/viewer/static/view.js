// What the page shows: one state, changed by viewer.js and mouse.js, read by all.

export const element = (id) => document.getElementById(id);
export const panes = Object.fromEntries(
  ["original", "decoded", "error"].map((name) => {
    const pane = element(`pane-${name}`);
    return [name, { pane, stage: pane.querySelector(".stage"), canvas: pane.querySelector("canvas"), note: pane.querySelector(".note") }];
  }),
);
export const view = {
  stream: null, slice: 0, phase: 0, layer: "whole", window: null, preset: "auto", playing: false,
  zoom: 1, x: 0, y: 0, follow: true, autoScale: 0, shown: {}, pointer: null,
};

export function phases() {
  return view.stream ? view.stream.phases(view.slice) : 0;
}

// Which of the server's frames stands for the original, if any does.
export function originalKind() {
  if (view.stream.state.compared) return "original";
  return view.stream.facts.lossless ? "whole" : null;
}

export function short(value) {
  return Number(value.toPrecision(7)).toString();
}

export function signed(value) {
  return value > 0 ? `+${short(value)}` : value < 0 ? `−${short(-value)}` : "0";
}
