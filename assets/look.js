/* Language, and light or dark: before anything is drawn, so that nothing flashes. And one habit of
   Gradio that would keep every browser awake. */
(() => {
  'use strict';

  function language() {
    const there = document.querySelector('meta[name="corral-languages"]').content.split(' ');
    let wanted = [];
    try { wanted = [localStorage.getItem('corral-language') || '']; } catch { /* as the browser says */ }
    for (const name of [...wanted, ...navigator.languages]) {
      const traditional = /^zh-(hant|tw|hk|mo)/i.test(name) ? 'zh-Hant' : 'zh-Hans';
      const found = /^zh\b/i.test(name) ? traditional : name.split('-')[0].toLowerCase();
      if (there.includes(found)) return found;
    }
    return there[0];
  }

  function theme(chosen) {
    if (chosen) { try { localStorage.setItem('corral-theme', chosen); } catch { /* for this visit only */ } }
    const given = document.querySelector('meta[name="corral-theme"]');
    let kept = chosen || (given && given.content !== 'auto' ? given.content : null);
    try { kept = chosen || localStorage.getItem('corral-theme') || kept; } catch { /* as given */ }
    const dark = kept ? kept === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    document.documentElement.dataset.theme = dark ? 'dark' : 'light';
    if (document.body) document.body.classList.toggle('dark', dark);
  }

  /* The timer of Gradio's loader counts seconds with each frame, also when the loader is long gone
     (6.31): 60 frames a second for ever. Nobody sees it here, so it gets none. */
  const frame = window.requestAnimationFrame.bind(window);
  const counts = /performance\.now\(\)-[^;]*\/1e3/;
  window.requestAnimationFrame = (work) => (counts.test(work) ? 0 : frame(work));

  theme();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => theme());
  window.corralLook = { language, theme };
})();
