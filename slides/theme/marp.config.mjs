// Marp, offline: the course's theme, HTML from cells allowed, emoji never fetched from a server.
import { fileURLToPath } from 'node:url'

const here = (name) => fileURLToPath(new URL(name, import.meta.url))

export default {
  themeSet: [here('./coursekit.css')],
  html: true,
  options: {
    emoji: { shortcode: false, unicode: false },
    math: 'mathjax', // katex would load its fonts from the network
  },
}
