// Every page, as everybody may see it: axe finds nothing serious in either theme
// and at phone width, nothing is wider than a phone, there is little JavaScript
// and the server answers at once. A picture of each is kept.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import axe from 'axe-core';
import { ask, launch, origin, phone, shots, torg, Visitor } from './browser.mjs';
import { pages } from './pages.mjs';

const looks = {
  light: { colorScheme: 'light' },
  dark: { colorScheme: 'dark' },
  phone: { colorScheme: 'light', viewport: phone, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
};
const maxScript = 60_000; // bytes, as sent
const maxServer = 30; // ms, median
const samples = 50;

let browser;
const visitors = {}; // by who and look
const paths = {};

before(async () => {
  if (shots) mkdirSync(shots, { recursive: true });
  browser = await launch();
  await ask('It is a truth universally acknowledged', 60);
  const secret = await torg('key', 'create', 'looks');
  const state = {
    owner: await (await Visitor.owner(browser)).context.storageState(),
    key: await (await Visitor.keyed(browser, secret)).context.storageState(),
  };
  for (const of of ['owner', 'key', 'nobody']) {
    visitors[of] = {};
    for (const [look, options] of Object.entries(looks)) visitors[of][look] = await Visitor.open(browser, { ...options, storageState: state[of] });
  }
  for (const p of pages) paths[p.name] = typeof p.path === 'function' ? await p.path(visitors[p.of].light) : p.path;
});
after(() => browser.close());

for (const p of pages) {
  test(p.name, async (t) => {
    for (const look of Object.keys(looks)) {
      const v = visitors[p.of][look];
      const page = await v.go(paths[p.name], p.status);
      await p.act?.(page);
      await page.evaluate(() => document.fonts.ready);
      if (shots) await page.screenshot({ path: path.join(shots, `${p.name}-${look}.png`), fullPage: true, animations: 'disabled' });
      const wide = await page.evaluate(() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(wide <= 0, `${look}: the page is ${wide} px wider than the screen`);
      await page.evaluate(axe.source);
      // Rows are alike: the first few of a table or a list stand for all.
      const { violations } = await page.evaluate(() => axe.run({ exclude: [['tbody tr:nth-child(n+5)'], ['.timeline li:nth-child(n+5)']] }, { resultTypes: ['violations'] }));
      const words = (found) => found.map((x) => `${x.impact} ${x.id}: ${x.help}: ${x.nodes.map((n) => n.target.join(' ')).slice(0, 5).join(', ')}`);
      const grave = violations.filter((x) => x.impact === 'serious' || x.impact === 'critical');
      for (const w of words(violations.filter((x) => !grave.includes(x)))) t.diagnostic(`${look}: ${w}`);
      assert.deepEqual(words(grave), [], look);
      if (look === 'light') {
        const bytes = await page.evaluate(() => performance.getEntriesByType('resource').filter((e) => e.initiatorType === 'script' || /\.m?js$/.test(new URL(e.name).pathname)).reduce((n, e) => n + e.encodedBodySize, 0));
        t.diagnostic(`${bytes} bytes of script`);
        assert.ok(bytes <= maxScript, `${bytes} bytes of script, more than ${maxScript}`);
      }
    }
  });
}

// The machine may be busy with other things: what a file without any work takes
// at the same time is not the page's.
test('the server answers at once', async (t) => {
  const time = async (url, headers = {}, status = 200) => {
    const began = performance.now();
    const r = await fetch(url, { headers, redirect: 'manual' });
    await r.arrayBuffer();
    const took = performance.now() - began;
    assert.equal(r.status, status, url);
    return took;
  };
  const median = (xs) => xs.sort((a, b) => a - b)[xs.length >> 1];
  for (const p of pages) {
    const cookie = (await visitors[p.of].light.context.cookies()).map((c) => `${c.name}=${c.value}`).join('; ');
    const page = [], file = [];
    for (let i = 0; i < samples; i++) {
      file.push(await time(origin + '/favicon.svg'));
      page.push(await time(origin + paths[p.name], { cookie }, p.status));
    }
    const took = median(page) - median(file);
    t.diagnostic(`${p.name}: p50 ${median(page).toFixed(1)} ms, a file ${median(file).toFixed(1)} ms`);
    assert.ok(took <= maxServer, `${p.name} takes ${took.toFixed(1)} ms, more than ${maxServer}`);
  }
});

test('no page did what none may', async () => {
  for (const by of Object.values(visitors)) for (const v of Object.values(by)) await v.leave();
});
