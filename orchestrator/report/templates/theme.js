// Runs before anything is drawn: with JavaScript the live figures replace the static ones; the theme is the reader's choice, else the system's.
(function () {
  var root = document.documentElement;
  root.classList.add("live");
  var asked = location.hash.match(/^#(dark|light)$/);
  var kept = null;
  try { kept = localStorage.getItem("edgematrix-theme"); } catch (blocked) { kept = null; }
  var theme = asked ? asked[1] : kept;
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
})();
