// Shows answers: one entry an operation, the events of a stream line by line, and streamed words as running text.

import { coloured } from "./language.js";

const MOST_EVENTS = 1000;
const LINE = 110;

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Pretty JSON; on one line where it has no more than `limit` characters. */
function written(value, limit) {
  const pretty = JSON.stringify(value, null, 2);
  const line = pretty.replace(/\n\s*/g, " ");
  return line.length <= limit ? line : pretty;
}

export class Result {
  #place;
  #spoken;
  #text;
  #waiting = [];
  #timer = 0;
  #lastTop = 0;
  #follows = true;

  constructor({ place, spoken, text }) {
    this.#place = place;
    this.#spoken = spoken;
    this.#text = text;
    // Whoever scrolls up wants to read; whoever comes back to the end wants to follow again.
    place.addEventListener("scroll", () => {
      const rest = place.scrollHeight - place.scrollTop - place.clientHeight;
      if (place.scrollTop < this.#lastTop) this.#follows = false;
      if (rest < 8) this.#follows = true;
      this.#lastTop = place.scrollTop;
    });
  }

  clear() {
    this.quiet();
    this.#place.replaceChildren();
    this.#follows = true;
  }

  /** Forgets the running text. */
  quiet() {
    this.#flush();
    this.#text.textContent = "";
    this.#spoken.hidden = true;
  }

  speak(text) {
    this.#later(() => {
      this.#spoken.hidden = false;
      this.#text.append(text);
      this.#text.scrollTop = this.#text.scrollHeight;
    });
  }

  /** A new entry under the others: `note(text)`, `answer(value)` shows a whole one, `event(value)` adds one line. */
  entry(title) {
    const note = element("span", "quiet");
    const heading = element("h3", "entry-title", title);
    heading.append(" ", note);
    const entry = element("section", "entry");
    entry.append(heading);
    this.#change(() => this.#place.append(entry));
    const began = performance.now();
    const events = element("ol", "events");
    return {
      note: (text) => {
        note.textContent = text;
      },
      answer: (value) => {
        this.#flush();
        this.#change(() => entry.append(this.#json(value, 0)));
      },
      event: (value) => {
        const seconds = ((performance.now() - began) / 1000).toFixed(2);
        this.#later(() => {
          if (!events.isConnected) entry.append(events);
          const row = element("li", "");
          row.append(element("span", "time", `+${seconds}`), this.#json(value, LINE));
          events.append(row);
          if (events.childElementCount > MOST_EVENTS) events.firstElementChild.remove();
        });
      },
    };
  }

  #json(value, limit) {
    const shown = element("pre", "json");
    shown.append(coloured(written(value, limit)));
    return shown;
  }

  /** Many events become one change of the page. A timer, because a page in the background paints no frames. */
  #later(work) {
    this.#waiting.push(work);
    this.#timer ||= setTimeout(() => this.#flush(), 16);
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const waiting = this.#waiting.splice(0);
    if (waiting.length) this.#change(() => waiting.forEach((work) => work()));
  }

  #change(work) {
    work();
    if (this.#follows) this.#place.scrollTop = this.#place.scrollHeight;
  }
}
