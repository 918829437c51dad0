// Search from disk. A browser starts no Worker for a page that it opened as a file, so its script runs in a hidden
// frame instead; messages go to and from the frame as events.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.loaded = new Promise((done) => this.frame.addEventListener("load", done));
      this.frame.addEventListener("answer", (answer) =>
        this.dispatchEvent(new MessageEvent("message", { data: answer.detail })),
      );
      const send = 'self.postMessage = (data) => frameElement.dispatchEvent(new CustomEvent("answer", { detail: data }))';
      this.frame.srcdoc = `<script>${send}<\/script><script src="${new URL(address, location)}"><\/script>`;
      document.body.append(this.frame);
    }

    postMessage(data) {
      this.loaded.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
