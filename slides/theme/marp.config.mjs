// Marp, offline: the course's theme, HTML from cells allowed, emoji never fetched from a server, formulas with a label.
import { fileURLToPath } from 'node:url'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))
const quoted = (text) => text.trim().replaceAll('&', '&amp;').replaceAll('"', '&quot;').replaceAll('<', '&lt;')

// A formula is drawn as an SVG; people who hear the slide get its TeX.
const labelled = (markdown) => {
  for (const rule of ['marp_math_inline', 'marp_math_block']) {
    const draw = markdown.renderer.rules[rule]
    markdown.renderer.rules[rule] = (tokens, i, ...rest) =>
      draw(tokens, i, ...rest).replace('<svg ', `<svg aria-label="${quoted(tokens[i].content)}" `)
  }
}

export default {
  themeSet: [here('./coursekit.css')],
  html: true,
  options: {
    emoji: { shortcode: false, unicode: false },
    math: 'mathjax', // katex would load its fonts from the network
  },
  engine: ({ marp }) => marp.use(labelled),
}
