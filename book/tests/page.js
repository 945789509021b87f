// Looks at one page and returns what is wrong with it, as sentences. Run by browser.rs in each page.
(() => {
  const wrong = [];
  const over = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (over > 0) {
    const wide = [...document.querySelectorAll('main *')]
      .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !e.closest('pre, .table-wrapper'));
    wrong.push(`${over} pixels wider than the screen: ${wide.slice(0, 3).map(e => e.outerHTML.slice(0, 80)).join(' | ')}`);
  }

  // Any colour that CSS can write, as numbers: the canvas reads it.
  const context = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
  const known = new Map();
  const colour = text => {
    if (!known.has(text)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = text;
      context.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
      known.set(text, [r, g, b, a / 255]);
    }
    return known.get(text);
  };
  const over_ = (top, below, opacity = 1) => {
    const a = top[3] * opacity;
    return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a)).concat(1);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const behind = element => {
    const above = [];
    for (let e = element; e; e = e.parentElement) above.unshift(e);
    return above.reduce((below, e) => over_(colour(getComputedStyle(e).backgroundColor), below), [255, 255, 255, 1]);
  };
  // In a picture: the shapes that were drawn before the text, and lie under its middle.
  const shapesBehind = text => {
    const svg = text.closest('svg'), box = text.getBoundingClientRect();
    const x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
    let below = behind(svg.parentElement);
    for (const shape of svg.querySelectorAll('rect, circle, ellipse, polygon, path')) {
      if (!(shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) continue;
      const s = getComputedStyle(shape), r = shape.getBoundingClientRect();
      if (s.fill === 'none' || x < r.left || x > r.right || y < r.top || y > r.bottom) continue;
      below = over_(colour(s.fill), below, Number(s.fillOpacity) * Number(s.opacity));
    }
    return below;
  };

  const told = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element || !element.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true })) continue;
    if (element.closest('script, style, noscript')) continue;
    const s = getComputedStyle(element), picture = element.closest('svg text');
    const below = picture ? shapesBehind(picture) : behind(element);
    let opacity = 1;
    for (let e = element; e; e = e.parentElement) opacity *= Number(getComputedStyle(e).opacity);
    const ink = over_(colour(picture ? s.fill : s.color), below, opacity);
    const size = parseFloat(s.fontSize), large = size >= 24 || (size >= 18.66 && Number(s.fontWeight) >= 700);
    const found = ratio(ink, below);
    if (found < (large ? 3 : 4.5) - 0.01) {
      const where = `${element.tagName.toLowerCase()}.${element.getAttribute('class') ?? ''}`;
      const sentence = `contrast ${found.toFixed(2)} in ${where} (${ink.slice(0, 3).map(Math.round)} on ${below.slice(0, 3).map(Math.round)})`;
      if (!told.has(sentence)) {
        told.add(sentence);
        wrong.push(`${sentence}: ${walker.currentNode.data.trim().slice(0, 30)}`);
      }
    }
  }
  // A plot is as wide as the page, and its text as large as that makes it.
  for (const text of document.querySelectorAll('figure.plot svg text')) {
    const size = parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a;
    const { left, right } = text.getBoundingClientRect(), frame = text.closest('svg').getBoundingClientRect();
    if (size < 11) wrong.push(`${size.toFixed(1)} pixels are too small for ${text.textContent}`);
    if (left < frame.left - 1 || right > frame.right + 1) wrong.push(`cut off: ${text.textContent}`);
  }
  for (const text of document.querySelectorAll('figure.plot svg text.number')) {
    const name = text.previousElementSibling;
    if (name.getBoundingClientRect().right > text.getBoundingClientRect().left) wrong.push(`one over the other: ${name.textContent} ${text.textContent}`);
  }
  for (const e of document.querySelectorAll('main :is(a[href], button, summary)')) {
    if (e.tabIndex < 0) wrong.push(`the keyboard does not reach ${e.outerHTML.slice(0, 80)}`);
    if (!(e.textContent.trim() || e.getAttribute('aria-label') || e.title)) wrong.push(`no name: ${e.outerHTML.slice(0, 80)}`);
  }
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) wrong.push(`the id ${id} is there twice`);
  return wrong;
})()
