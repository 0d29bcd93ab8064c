// The page: an image in, three out.
import examples from "./examples.json"; // { label: [file, ...] }, files beside the page
import { where } from "./runtime.js";
import { atFullSize, composite, directions, heatMap, predict, workingSize } from "./translate.js";

const find = (name) => document.getElementById(name);
const MAX_SIDE = 2048; // pixels: larger images are slow, and a screen shows no more
let input = null; // the canvas of the input
let prediction = null; // at the input's size
let strokes = null; // Int8Array of the input's size: 1 translates, -1 keeps the input
let requests = 0;

function direction() {
  return directions[Number(document.querySelector("input[name=to]:checked").value)];
}

function showStatus(text) {
  find("status").textContent = text;
}

function canvasOf(source, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return canvas;
}

function pixelsOf(canvas) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}

function show(name, bytes) {
  const canvas = find(name);
  canvas.width = input.width;
  canvas.height = input.height;
  canvas.getContext("2d").putImageData(new ImageData(bytes, input.width, input.height), 0, 0);
}

async function open(file) {
  let image;
  try {
    image = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    showStatus(`${file.name} is not an image that this browser can open.`);
    return;
  }
  await showImage(image, file.name);
}

async function showImage(image, name) {
  const scale = Math.min(1, MAX_SIDE / Math.max(image.width, image.height));
  if (Math.min(image.width, image.height) * scale < 16) {
    showStatus(`${name} is ${image.width} x ${image.height} pixels: each side must be at least 16.`);
    return;
  }
  input = canvasOf(image, Math.round(image.width * scale), Math.round(image.height * scale));
  strokes = new Int8Array(input.width * input.height);
  await translate();
}

async function translate() {
  if (input === null) return;
  const request = ++requests;
  const way = direction();
  find("threshold").value = way.attention_threshold;
  showStatus("Translating ...");
  document.body.dataset.state = "busy";
  const start = performance.now();
  try {
    const size = workingSize(input.width, input.height, way);
    const pixels = pixelsOf(canvasOf(input, ...size));
    const small = await predict(pixels, ...size, way, (received, total) => {
      const of = total ? ` of ${(total / 1e6).toFixed(0)}` : "";
      showStatus(`Fetching the model: ${(received / 1e6).toFixed(0)}${of} MB ...`);
      if (received === total) showStatus("Translating ...");
    });
    if (request !== requests) return; // another image or direction was chosen meanwhile
    prediction = atFullSize(small, input.width, input.height);
  } catch (error) {
    showStatus(`The translation failed: ${error.message ?? error}`);
    document.body.dataset.state = "failed";
    return;
  }
  draw();
  showStatus(`${way.from} to ${way.to}, in ${((performance.now() - start) / 1000).toFixed(1)} s, ${where()}.`);
  document.body.dataset.state = "done";
}

function draw() {
  if (prediction === null) return;
  const threshold = Number(find("threshold").value);
  const pixels = pixelsOf(input);
  show("input", new Uint8ClampedArray(pixels));
  show("attention", heatMap(prediction, threshold, strokes));
  show("output", composite(pixels, prediction, threshold, strokes));
  find("value").textContent = threshold.toFixed(2);
  find("save").hidden = false;
}

function save() {
  find("output").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${direction().to}.png`;
    link.click();
    URL.revokeObjectURL(link.href);
  }, "image/png");
}

// The brush on the attention map: discs of its size, between the places of a stroke too.
let last = null;

function brush() {
  return document.querySelector("input[name=brush]:checked").value;
}

function paint(event) {
  const mode = brush();
  if (prediction === null || mode === "off") return;
  const canvas = find("attention");
  const box = canvas.getBoundingClientRect();
  const place = [event.clientX - box.left, event.clientY - box.top].map((at) => (at * canvas.width) / box.width);
  const radius = (Number(find("size").value) / 100) * Math.min(canvas.width, canvas.height) / 2;
  const from = last ?? place;
  const steps = Math.max(1, Math.ceil(Math.hypot(place[0] - from[0], place[1] - from[1]) / Math.max(1, radius / 2)));
  for (let step = 1; step <= steps; step++) {
    disc(...[0, 1].map((axis) => from[axis] + ((place[axis] - from[axis]) * step) / steps), radius, mode === "add" ? 1 : -1);
  }
  last = place;
  requestAnimationFrame(draw);
}

function disc(x, y, radius, value) {
  const [width, height] = [input.width, input.height];
  for (let row = Math.max(0, Math.ceil(y - radius)); row <= Math.min(height - 1, y + radius); row++) {
    const half = Math.sqrt(radius ** 2 - (row - y) ** 2);
    const [left, right] = [Math.max(0, Math.ceil(x - half)), Math.min(width, Math.floor(x + half) + 1)];
    if (left < right) strokes.fill(value, row * width + left, row * width + right);
  }
}

find("attention").addEventListener("pointerdown", (event) => {
  if (brush() === "off") return;
  event.target.setPointerCapture(event.pointerId);
  last = null;
  paint(event);
});
find("attention").addEventListener("pointermove", (event) => event.buttons && paint(event));
for (const button of document.querySelectorAll("input[name=brush]")) {
  // A finger that paints must not scroll the page.
  button.addEventListener("change", () => { find("attention").style.touchAction = brush() === "off" ? "auto" : "none"; });
}
find("clear").addEventListener("click", () => {
  strokes?.fill(0);
  draw();
});

function addExamples() {
  directions.forEach((way, number) => {
    for (const file of examples[way.from] ?? []) {
      const button = document.createElement("button");
      const picture = document.createElement("img");
      Object.assign(picture, { src: `examples/${file}`, alt: `Example: ${way.from}`, loading: "lazy" });
      button.append(picture);
      button.type = "button";
      button.addEventListener("click", () => openExample(picture.src, number));
      find("examples").append(button);
    }
  });
  find("examples").hidden = !find("examples").children.length;
}

async function openExample(address, number) {
  document.querySelectorAll("input[name=to]")[number].checked = true;
  try {
    const blob = await (await fetch(address)).blob();
    await showImage(await createImageBitmap(blob), "The example");
  } catch {
    showStatus("The example cannot be fetched.");
  }
}

directions.forEach((way, number) => {
  const label = document.createElement("label");
  const button = document.createElement("input");
  Object.assign(button, { type: "radio", name: "to", value: number, checked: number === 0 });
  label.append(button, ` to ${way.to}`);
  find("directions").append(label);
  button.addEventListener("change", translate);
});
find("file").addEventListener("change", (event) => event.target.files[0] && open(event.target.files[0]));
find("threshold").addEventListener("input", draw);
find("save").addEventListener("click", save);
for (const name of ["dragover", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    if (name === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files[0]) open(event.clipboardData.files[0]);
});
addExamples();
find("examples").querySelector("button")?.click(); // the page opens with a translation
