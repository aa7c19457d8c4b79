// A browser that looks at the console of a running torg up, and notes whatever
// no page may do: ask another machine for something, break the content security
// policy, write an error to the browser's console, fail in a script.
//
// From the environment: TORG (the binary), TORG_HOME (the home of the torg up
// that runs), TORG_LINK (the link it printed), CHROMIUM (the browser), and
// TORG_SHOTS (a folder for screenshots).
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

const home = process.env.TORG_HOME;
export const running = JSON.parse(readFileSync(path.join(home, 'running.json'), 'utf8'));
export const origin = new URL(running.admin_url).origin;
export const shots = process.env.TORG_SHOTS;

const desktop = { width: 1280, height: 900 };
export const phone = { width: 390, height: 844 };

// launch starts the browser. Chromium runs as root in CI, hence no sandbox; it
// only ever sees pages of this machine.
export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] });
}

// torg runs a command against the square.
export async function torg(...args) {
  const { stdout } = await promisify(execFile)(process.env.TORG, ['--home', home, ...args]);
  return stdout.trim();
}

// link is a new link that opens the owner's console once.
export const link = () => torg('console');

// ask sends a question as a program does and returns its receipt.
export async function ask(content, max_tokens = 1, key = running.api_key) {
  const r = await fetch(running.base_url + '/chat/completions', {
    method: 'POST', headers: { Authorization: 'Bearer ' + key, 'Content-Type': 'application/json' },
    body: JSON.stringify({ model: 'torg-nano', max_tokens, messages: [{ role: 'user', content }] }),
  });
  const answer = await r.json();
  assert.equal(r.status, 200, JSON.stringify(answer));
  return answer.receipt;
}

// Visitor is one browser profile with one tab.
export class Visitor {
  #faults = [];
  #expected = [];

  // open makes a visitor; options are Playwright's of a context. wallets, if
  // given, is put into every page before its scripts (see wallets.mjs).
  static async open(browser, { wallets, ...options } = {}) {
    const v = new Visitor();
    v.context = await browser.newContext({ viewport: desktop, reducedMotion: 'reduce', ...options });
    v.context.setDefaultTimeout(30_000);
    v.context.on('request', (r) => {
      if (new URL(r.url()).origin !== origin) v.#faults.push(`asked elsewhere: ${r.method()} ${r.url()}`);
    });
    v.context.on('console', (m) => {
      if (m.type() === 'error') v.#faults.push(`${m.text()} (${m.location().url})`);
    });
    v.context.on('weberror', (e) => v.#faults.push(`a script failed: ${e.error()}`));
    await v.context.addInitScript(() => {
      addEventListener('securitypolicyviolation', (e) => console.error(`content security policy: ${e.violatedDirective} ${e.blockedURI}`));
    });
    await wallets?.(v.context);
    v.page = await v.context.newPage();
    return v;
  }

  // owner makes a visitor who came by a login link.
  static async owner(browser, options) {
    const v = await Visitor.open(browser, options);
    await v.page.goto(await link());
    await v.page.waitForURL(origin + '/');
    return v;
  }

  // keyed makes a visitor who logged in with an API key.
  static async keyed(browser, secret, options) {
    const v = await Visitor.open(browser, options);
    await v.go('/login');
    await v.page.getByRole('textbox', { name: 'API key' }).fill(secret);
    await v.page.getByRole('button', { name: 'Log in' }).click();
    await v.page.waitForURL(origin + '/');
    return v;
  }

  // go opens a page and expects the status.
  async go(to, status = 200) {
    if (status >= 400) this.expect(new RegExp(`status of ${status} `));
    const r = await this.page.goto(new URL(to, origin).href);
    assert.equal(r.status(), status, `${to} answered ${r.status()}`);
    return this.page;
  }

  // expect allows a fault that a test brings about on purpose.
  expect(pattern) {
    this.#expected.push(pattern);
  }

  // leave closes the profile and fails if a page did what none may.
  async leave() {
    await this.context.close();
    assert.deepEqual(this.#faults.filter((f) => !this.#expected.some((p) => p.test(f))), []);
  }
}

// units is what a money element on the page says, in utorg.
export const units = async (locator) => Number(await locator.locator('data').first().getAttribute('value'));
