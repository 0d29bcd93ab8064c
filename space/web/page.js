// The page: a picture in, three out.
import { atFullSize, composite, directions, heatMap, propose, workingSize } from "./translate.js";

const find = (name) => document.getElementById(name);
const LARGEST = 2048; // pixels a side: beyond it a page is slow, and a screen shows no more
let picture = null; // the canvas of the input
let full = null; // what the networks said of it, at its own size
let asked = 0;

function direction() {
  return directions[Number(document.querySelector("input[name=to]:checked").value)];
}

function say(words) {
  find("status").textContent = words;
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
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").putImageData(new ImageData(bytes, picture.width, picture.height), 0, 0);
}

async function open(file) {
  let image;
  try {
    image = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    say(`${file.name} is no picture that this browser can open.`);
    return;
  }
  const scale = Math.min(1, LARGEST / Math.max(image.width, image.height));
  if (Math.min(image.width, image.height) * scale < 16) {
    say(`${file.name} is ${image.width} x ${image.height} pixels: 16 a side is the least.`);
    return;
  }
  picture = canvasOf(image, Math.round(image.width * scale), Math.round(image.height * scale));
  await translate();
}

async function translate() {
  if (picture === null) return;
  const mine = ++asked;
  const way = direction();
  find("threshold").value = way.attention_threshold;
  say("Translating ...");
  document.body.dataset.state = "busy";
  const start = performance.now();
  try {
    const size = workingSize(picture.width, picture.height, way);
    const seen = pixelsOf(canvasOf(picture, ...size));
    const proposed = await propose(seen, ...size, way);
    if (mine !== asked) return; // another picture, or the other way, was asked for meanwhile
    full = atFullSize(proposed, picture.width, picture.height);
  } catch (error) {
    say(`It did not work: ${error.message ?? error}`);
    document.body.dataset.state = "failed";
    return;
  }
  draw();
  say(`${way.from} to ${way.to}, in ${((performance.now() - start) / 1000).toFixed(1)} s, on this device.`);
  document.body.dataset.state = "done";
}

function draw() {
  if (full === null) return;
  const threshold = Number(find("threshold").value);
  const pixels = pixelsOf(picture);
  show("input", new Uint8ClampedArray(pixels));
  show("attention", heatMap(full, threshold));
  show("output", composite(pixels, full, threshold));
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
