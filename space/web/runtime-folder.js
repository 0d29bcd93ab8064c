// The runtime and the models as files beside the page: fetched when they are needed, with progress.
const HERE = new URL("./", import.meta.url).href;
let started = null;
let onGpu = false;

async function start(useGpu) {
  // Each is a program of its own, of which one is fetched.
  const ort = useGpu ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
  ort.env.wasm.wasmPaths = `${HERE}runtime/`;
  // Threads share memory, which browsers allow to isolated pages alone: see isolate.js.
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  ort.env.logLevel = "error";
  onGpu = useGpu;
  return ort;
}

async function hasGpu() {
  try {
    return Boolean(await navigator.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

async function fetchBytes(name, progress) {
  const response = await fetch(`${HERE}models/${name}.onnx`);
  if (!response.ok) throw new Error(`the model cannot be fetched (${response.status}).`);
  const total = Number(response.headers.get("content-length")) || 0;
  const parts = [];
  let received = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    received += value.length;
    progress(received, total);
  }
  const bytes = new Uint8Array(received);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

export async function load(file, progress) {
  const bytes = await fetchBytes(file, progress);
  if (started === null) started = start(await hasGpu());
  let ort = await started;
  if (onGpu) {
    try {
      return { ort, session: await ort.InferenceSession.create(bytes, { executionProviders: ["webgpu"] }) };
    } catch { // an operator or a driver that WebGPU lacks
      started = start(false);
      ort = await started;
    }
  }
  return { ort, session: await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] }) };
}

export const where = () => (onGpu ? "on this device's GPU" : "on this device");
