// A service worker that adds the two headers of isolated pages where the server does not send them, so that
// the runtime may use threads. The page loads it as a script, too, to start it, and is loaded again once.
if (typeof window === "undefined") {
  self.addEventListener("install", () => self.skipWaiting());
  self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
  self.addEventListener("fetch", (event) => {
    if (new URL(event.request.url).origin !== self.location.origin) return;
    event.respondWith(
      fetch(event.request).then((response) => {
        const headers = new Headers(response.headers);
        headers.set("Cross-Origin-Embedder-Policy", "require-corp");
        headers.set("Cross-Origin-Opener-Policy", "same-origin");
        headers.set("Cross-Origin-Resource-Policy", "same-origin");
        const { status, statusText } = response;
        return new Response(response.body, { status, statusText, headers });
      }),
    );
  });
} else if (!window.crossOriginIsolated && window === window.top && "serviceWorker" in navigator) {
  // In a frame of another page there is no isolation to be had.
  const tried = "agit-isolated";
  navigator.serviceWorker.register(document.currentScript.src).then(() => navigator.serviceWorker.ready).then(() => {
    if (sessionStorage.getItem(tried)) return;
    sessionStorage.setItem(tried, "yes");
    location.reload();
  }, () => { /* not allowed here: one thread does it, too */ });
}
