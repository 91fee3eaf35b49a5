// What the libraries must find before they are loaded. Imported first.

// The page's policy lets a <style> in only by the nonce of this answer. Monaco and the dialogs make theirs by script, and what
// makes an element by script could as well have the nonce; what comes as markup has not.
const nonce = document.querySelector("script[nonce]").nonce;
const createElement = document.createElement;
document.createElement = function (name, ...others) {
  const element = createElement.call(this, name, ...others);
  if (element instanceof HTMLStyleElement) element.nonce = nonce;
  return element;
};

globalThis.MonacoEnvironment = {
  getWorker: (_id, label) => new Worker(new URL(`./${WORKERS[label] ?? WORKERS.editor}`, import.meta.url)),
};
