// A page that was opened from a disk may start no worker, so the site's search runs in a frame without a size.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.body.appendChild(document.createElement("iframe"));
      frame.hidden = true;
      const inner = frame.contentWindow;
      inner.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = frame.contentDocument.createElement("script");
      const loaded = new Promise(resolve => script.addEventListener("load", resolve));
      this.postMessage = data =>
        loaded.then(() => inner.dispatchEvent(new inner.MessageEvent("message", { data })));
      script.src = url;
      frame.contentDocument.body.append(script);
    }
  };
}
