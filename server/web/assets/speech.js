// What a screen reader is told of an answer that grows: whole sentences, not more often than they can be listened to.

import { part } from "./dom.js";

const PAUSE = 2500;
const SENTENCES = /^[^]*[.!?…:](?=\s|$)|^[^]*\n/;

export class Speech {
  #spoken = 0;
  #last = 0;

  /** `text` is all there is so far. */
  hear(text) {
    const now = performance.now();
    if (now - this.#last < PAUSE) return;
    const ready = SENTENCES.exec(text.slice(this.#spoken))?.[0];
    if (!ready?.trim()) return;
    this.#last = now;
    this.#spoken += ready.length;
    say(ready);
  }

  end(text, verdict) {
    say(`${text.slice(this.#spoken)} ${verdict}`.trim());
    this.#spoken = text.length;
  }
}

export function say(text) {
  const line = document.createElement("p");
  line.textContent = text;
  const place = part("spoken");
  place.append(line);
  // What has been read out need not stay.
  while (place.childElementCount > 8) place.firstElementChild.remove();
}
