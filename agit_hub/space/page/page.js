// Names and roles that Gradio's components lack, for screen readers.
const NAMES = {
  "#attention button.image-frame, #attention .image-container > button": "Attention: click an object to change it alone",
  "#output .image-container > button": "Output, larger",
  "#input .image-container > button": "Input, larger",
  "#animation .image-container > button": "Animation",
  "#share-card .image-container > button": "Card",
};
const ALTERNATIVES = {
  "#input": "Input",
  "#attention": "Attention over the input",
  "#output": "Output",
  "#mask": "Mask",
  "#animation": "From the input to the output and back",
  "#share-card": "Input, attention and output",
};

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function mend() {
  const all = (selector) => document.querySelectorAll(selector);
  for (const [selector, name] of Object.entries(NAMES))
    for (const button of all(selector)) set(button, "aria-label", name);
  for (const [place, text] of Object.entries(ALTERNATIVES))
    for (const image of all(`${place} img`)) set(image, "alt", text);
  all("#examples button.gallery-item").forEach((button, at) => set(button, "aria-label", `Example ${at + 1}`));
  for (const named of all("div[aria-label]:not([role])")) set(named, "role", "group");
  for (const line of all("#status, #video-status, #summary")) {
    set(line, "role", "status");
    set(line, "aria-live", "polite");
  }
}

let waiting = false;
new MutationObserver(() => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; mend(); });
}).observe(document.documentElement, { childList: true, subtree: true });
mend();
