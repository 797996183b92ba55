// Zoom, pan and window by mouse or pen, the same for all panes.

import { readout } from "./panel.js";
import { panes, view } from "./view.js";

export function zoomBy(factor, x = 0, y = 0) {
  const zoom = Math.max(1, Math.min(32, view.zoom * factor));
  const change = zoom / view.zoom;
  [view.zoom, view.x, view.y] = [zoom, x - (x - view.x) * change, y - (y - view.y) * change];
  if (zoom === 1) [view.x, view.y] = [0, 0];
  transform();
}

function transform() {
  for (const { canvas } of Object.values(panes)) {
    canvas.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
  }
}

// Voxel under a mouse event; the canvas keeps its proportions within its box.
function voxelAt(event, canvas) {
  const box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
  const left = box.left + (box.width - canvas.width * scale) / 2;
  const top = box.top + (box.height - canvas.height * scale) / 2;
  return { row: Math.floor((event.clientY - top) / scale), column: Math.floor((event.clientX - left) / scale) };
}

export function steer({ stage, canvas }, setWindow) {
  let from = null;
  stage.addEventListener("pointerdown", (event) => {
    const move = event.shiftKey || event.button !== 0;
    from = { x: event.clientX, y: event.clientY, move, window: view.window, at: [view.x, view.y] };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    view.pointer = voxelAt(event, canvas);
    if (view.stream && view.stream.facts) readout();
    if (!from || !from.window) return;
    const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
    if (from.move) {
      [view.x, view.y] = [from.at[0] + dx, from.at[1] + dy];
      transform();
    } else {
      const gain = from.window.width / 200;
      setWindow(from.window.center - dy * gain, from.window.width * 2 ** (dx / 150));
    }
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => (from = null));
  stage.addEventListener("pointerleave", () => {
    view.pointer = null;
    if (view.stream && view.stream.facts) readout();
  });
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("dblclick", () => zoomBy(0));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoomBy(2 ** (-event.deltaY / 400), event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
  }, { passive: false });
}
