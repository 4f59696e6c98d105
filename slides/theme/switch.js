// Light or dark: without a choice the slides follow the viewer's system; the key d switches, and every window of the
// deck (the presenter's too) follows and remembers. A slide whose author fixed `class: light` or `dark` stays as it is.
(() => {
  const KEY = 'coursekit-scheme'
  const slides = [...document.querySelectorAll('section')].filter((s) => !s.matches('.light, .dark'))
  const show = (scheme) => {
    for (const slide of slides) {
      slide.classList.toggle('light', scheme === 'light')
      slide.classList.toggle('dark', scheme === 'dark')
    }
    for (const frame of document.querySelectorAll('iframe.live')) tint(frame, scheme)
  }
  // A page in a frame asks the system, not the slide, so it is told; widgets of the course listen to --fx-color-scheme.
  const tint = (frame, scheme) => {
    const root = frame.contentDocument?.documentElement
    root?.style.setProperty('color-scheme', scheme ?? 'light dark')
    root?.style.setProperty('--fx-color-scheme', scheme ?? 'light dark')
    frame.onload = () => tint(frame, scheme)
  }
  const recall = () => { try { return localStorage.getItem(KEY) } catch { return null } } // none in a sandboxed frame
  const keep = (scheme) => { try { localStorage.setItem(KEY, scheme) } catch { /* then only this window follows */ } }
  const system = () => (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')
  let now = recall()
  show(now)
  addEventListener('storage', (event) => { if (event.key === KEY) show((now = event.newValue)) })
  addEventListener('keydown', (event) => {
    const typing = event.target.matches('input, select, textarea')
    if (event.key !== 'd' || event.ctrlKey || event.metaKey || event.altKey || typing) return
    now = (now ?? system()) === 'dark' ? 'light' : 'dark'
    show(now)
    keep(now)
  })
})()
