// The look, before the first thing is drawn: light, dark, or as the system has it.

(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("loquent.theme");
  } catch {
    // A browser that keeps nothing has the system's look.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
