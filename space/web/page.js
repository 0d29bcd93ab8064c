// The page: an image in, three out.
import { atFullSize, composite, directions, heatMap, predict, workingSize } from "./translate.js";

const find = (name) => document.getElementById(name);
const MAX_SIDE = 2048; // pixels: larger images are slow, and a screen shows no more
let input = null; // the canvas of the input
let prediction = null; // at the input's size
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
  const scale = Math.min(1, MAX_SIDE / Math.max(image.width, image.height));
  if (Math.min(image.width, image.height) * scale < 16) {
    showStatus(`${file.name} is ${image.width} x ${image.height} pixels: each side must be at least 16.`);
    return;
  }
  input = canvasOf(image, Math.round(image.width * scale), Math.round(image.height * scale));
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
    const small = await predict(pixels, ...size, way);
    if (request !== requests) return; // another image or direction was chosen meanwhile
    prediction = atFullSize(small, input.width, input.height);
  } catch (error) {
    showStatus(`The translation failed: ${error.message ?? error}`);
    document.body.dataset.state = "failed";
    return;
  }
  draw();
  showStatus(`${way.from} to ${way.to}, in ${((performance.now() - start) / 1000).toFixed(1)} s, on this device.`);
  document.body.dataset.state = "done";
}

function draw() {
  if (prediction === null) return;
  const threshold = Number(find("threshold").value);
  const pixels = pixelsOf(input);
  show("input", new Uint8ClampedArray(pixels));
  show("attention", heatMap(prediction, threshold));
  show("output", composite(pixels, prediction, threshold));
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
