// From an image to its prediction, and from that to a translation, without the page.
import { load } from "./runtime.js"; // of a file or of a folder: the build decides
import metadata from "./directions.json";

const MAX_ASPECT = 4; // as agit_hub.inference.image_processor.working_size
const sessions = new Map();

export const directions = metadata; // [{ file, from, to, attention_threshold, image_size, size_multiple }]

function session(file, progress) {
  if (!sessions.has(file)) {
    const loading = load(file, progress);
    sessions.set(file, loading);
    loading.catch(() => sessions.delete(file)); // the next image tries again
  }
  return sessions.get(file);
}

// The size of the networks' input: the image's aspect kept, sides multiples of 4.
export function workingSize(width, height, direction) {
  const side = Number(direction.image_size);
  const step = Number(direction.size_multiple);
  const scale = Math.min(side / Math.min(width, height), (MAX_ASPECT * side) / Math.max(width, height));
  return [width, height].map((each) => Math.max(16, Math.round((each * scale) / step) * step));
}

// Pixels (RGBA bytes) at the working size -> attention and F(s) - s, planes of floats. `progress` is called with
// the bytes of the model that have arrived, and their total or 0.
export async function predict(pixels, width, height, direction, progress = () => {}) {
  const plane = width * height;
  const values = new Float32Array(3 * plane);
  for (let place = 0; place < plane; place++) {
    for (let channel = 0; channel < 3; channel++) {
      values[channel * plane + place] = pixels[4 * place + channel] / 127.5 - 1;
    }
  }
  const { ort, session: network } = await session(direction.file, progress);
  const input = new ort.Tensor("float32", values, [1, 3, height, width]);
  const { attention, generated } = await network.run({ input });
  const change = generated.data.map((value, place) => value - values[place]);
  return { width, height, attention: attention.data, change };
}

// Upsample a plane of floats bilinearly.
function upsample(plane, width, height, wide, high) {
  const out = new Float32Array(wide * high);
  const [left, share] = places(width, wide);
  const [top, part] = places(height, high);
  for (let y = 0; y < high; y++) {
    const above = top[y] * width;
    const below = Math.min(top[y] + 1, height - 1) * width;
    for (let x = 0; x < wide; x++) {
      const right = Math.min(left[x] + 1, width - 1);
      const upper = plane[above + left[x]] * (1 - share[x]) + plane[above + right] * share[x];
      const lower = plane[below + left[x]] * (1 - share[x]) + plane[below + right] * share[x];
      out[y * wide + x] = upper * (1 - part[y]) + lower * part[y];
    }
  }
  return out;
}

function places(few, many) {
  const before = new Int32Array(many);
  const share = new Float32Array(many);
  for (let n = 0; n < many; n++) {
    const at = Math.min(Math.max(((n + 0.5) * few) / many - 0.5, 0), few - 1);
    before[n] = Math.floor(at);
    share[n] = at - before[n];
  }
  return [before, share];
}

// A prediction at the image's own size, to be drawn with any threshold.
export function atFullSize({ width, height, attention, change }, wide, high) {
  const plane = width * height;
  const grow = (values) => upsample(values, width, height, wide, high);
  return {
    attention: grow(attention),
    change: [0, 1, 2].map((channel) => grow(change.subarray(channel * plane, (channel + 1) * plane))),
  };
}

// The translation's bytes: where attention is below the threshold they are the input's.
export function composite(pixels, { attention, change }, threshold, strokes = null) {
  const out = new Uint8ClampedArray(pixels);
  for (let place = 0; place < attention.length; place++) {
    const share = edited(attention[place], threshold, strokes?.[place]);
    if (share === 0) continue;
    for (let channel = 0; channel < 3; channel++) {
      const byte = 4 * place + channel;
      out[byte] = Math.round(pixels[byte] + share * change[channel][place] * 127.5);
    }
  }
  return out;
}

// Attention after the threshold and the brush: a stroke of 1 translates, one of -1 keeps the input.
function edited(share, threshold, stroke) {
  if (stroke) return stroke > 0 ? 1 : 0;
  return share < threshold ? 0 : share;
}

// Dark blue over magenta to pale yellow, as agit_hub.visualization.heat_map.
const HEAT = [[8, 6, 36], [72, 16, 110], [160, 40, 110], [232, 90, 74], [252, 172, 84], [252, 250, 190]];

export function heatMap({ attention }, threshold, strokes = null) {
  const out = new Uint8ClampedArray(4 * attention.length);
  attention.forEach((share, place) => {
    const at = edited(share, threshold, strokes?.[place]) * (HEAT.length - 1);
    const anchor = Math.min(Math.floor(at), HEAT.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [low, high] = [HEAT[anchor][channel], HEAT[anchor + 1][channel]];
      out[4 * place + channel] = Math.round(low + (high - low) * (at - anchor));
    }
    out[4 * place + 3] = 255;
  });
  return out;
}
