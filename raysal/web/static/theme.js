// The theme before the first paint: what was chosen here, or what the system prefers. A classic script: it must block.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("raysal.theme"); } catch (error) { chosen = null; }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
